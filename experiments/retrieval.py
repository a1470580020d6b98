"""Does a small trained encoder find the paragraph that answers a question? Beside BM25.

Command: python -m experiments.retrieval --source=xquad.en.json --hf=FOLDER
Hardware: 2 CPU cores.
Time: six minutes on a busy machine, half of it for transformers.
Expected: MiniLM (all-MiniLM-L6-v2) and BM25 both find 99 % of the paragraphs among the first ten.
    At the first place BM25 is ahead: whoever asked had the paragraph before them, and took their
    words from it (docs/LOG.md).

Source is a file in SQuAD's layout; every question is asked of all paragraphs, of which its own is
the right one. The model's vectors are those of `lm embed`, compared by the cosine. The same folder
read by transformers, pooled as sentence-transformers pools, must give the same vectors and ranks:
`largest_difference` is that of any entry. BM25 is bm25s's (Lucene's form, k1 = 1.5, b = 0.75,
English stop words left out, no stemming). Texts longer than the model's context are cut there, and
counted. Needs the extra `peers`.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lm.errors import UserError
from lm.flags import Flags

from ._command import run_command

RANKS = (1, 10)
"""Of recall."""


class Questions(NamedTuple):
    """Questions to be asked of paragraphs.

    Attributes:
      paragraphs: P texts.
      questions: Q texts.
      right_Q: the number of each question's own paragraph.
    """

    paragraphs: list[str]
    questions: list[str]
    right_Q: Int[np.ndarray, ' Q']


def read_questions(path: str) -> Questions:
    """A file in SQuAD's layout.

    Raises:
      UserError: it cannot be read, or is laid out otherwise.
    """
    paragraphs: list[str] = []
    questions: list[str] = []
    right: list[int] = []
    try:
        for article in json.loads(Path(path).read_bytes())['data']:
            for paragraph in article['paragraphs']:
                asked = [each['question'] for each in paragraph['qas']]
                questions += asked
                right += [len(paragraphs)] * len(asked)
                paragraphs.append(paragraph['context'])
    except OSError as error:
        raise UserError(f'--source={path}: cannot be read ({error.strerror})') from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--source={path}: is not in SQuAD's layout ({error!r})") from None
    if not questions:
        raise UserError(f'--source={path}: has no question')
    return Questions(paragraphs, questions, np.array(right, np.int32))


def ranks(
    scores_QP: Float[np.ndarray, 'Q P'], right_Q: Int[np.ndarray, ' Q']
) -> Int[np.ndarray, ' Q']:
    """The rank of each question's own paragraph, from 1; those that score as high come before."""
    own_Q1 = scores_QP[np.arange(len(right_Q)), right_Q][:, None]
    return (scores_QP >= own_Q1).sum(1)


def measures(ranks_Q: Int[np.ndarray, ' Q']) -> dict[str, float]:
    """Recall at each of `RANKS`, with its standard error over questions, and the mean 1 / rank."""
    told: dict[str, float] = {}
    for most in RANKS:
        share = float((ranks_Q <= most).mean())
        told[f'recall_at_{most}'] = share
        error = math.sqrt(share * (1 - share) / len(ranks_Q))
        told[f'recall_at_{most}_standard_error'] = error
    return {**told, 'mrr': float((1 / ranks_Q).mean())}


def analyze(scores: Mapping[str, Float[np.ndarray, 'Q P']], asked: Questions) -> dict[str, Any]:
    """Each way's measures, and of the first and BM25 the questions that one alone gets right."""
    found = {name: ranks(scores_QP, asked.right_Q) for name, scores_QP in scores.items()}
    told: dict[str, Any] = {name: measures(ranks_Q) for name, ranks_Q in found.items()}
    first = next(iter(found))
    here_Q, there_Q = found[first] == 1, found['bm25'] == 1
    told['only_right'] = {
        first: int((here_Q & ~there_Q).sum()),
        'bm25': int((there_Q & ~here_Q).sum()),
    }
    return told


def bm25(asked: Questions) -> Float[np.ndarray, 'Q P']:
    """BM25's score of each paragraph for each question."""
    import bm25s

    def words(texts: Sequence[str]) -> Any:
        return bm25s.tokenize(list(texts), stopwords='en', return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(words(asked.paragraphs), show_progress=False)
    return np.stack([index.get_scores(question) for question in words(asked.questions)])


def transformers_vectors(
    folder: str, texts: Sequence[str], context: int, batch_size: int
) -> Float[np.ndarray, 'N D']:
    """Vectors of length 1 by transformers, pooled by the attention mask."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    parts = []
    for first in range(0, len(texts), batch_size):
        fields = tokenizer(
            list(texts[first : first + batch_size]), return_tensors='pt', padding=True,
            truncation=True, max_length=context,
        )  # fmt: skip
        with torch.no_grad():
            x_BTD = model(**fields).last_hidden_state
        mask_BT1 = fields['attention_mask'][:, :, None]
        mean_BD = (x_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        parts.append(torch.nn.functional.normalize(mean_BD, dim=1).numpy())
    return np.concatenate(parts)


def main() -> int:
    """Prints the analysis as one JSON object."""
    return run_command('retrieval', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('source', str, '', "the questions: a file in SQuAD's layout")
    flags.define('hf', str, '', "the encoder's Hugging Face folder")
    flags.define('batch_size', int, 32, 'texts read at once')


def _run(flags: Flags) -> dict[str, Any]:
    asked, folder = read_questions(flags.required('source')), flags.required('hf')
    _require_peers()
    from lm.inspection.vectors import text_vectors
    from lm.training.load import load_foreign

    model, size = load_foreign(folder), flags['batch_size']
    texts = [*asked.paragraphs, *asked.questions]
    seconds: dict[str, float] = {}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = make()
        seconds[name] = round(time.perf_counter() - start, 2)
        return made

    ours = timed(
        'lm',
        lambda: text_vectors(model, texts, batch_size=size, normalize=True, truncate=True),
    )
    theirs_ND = timed(
        'transformers', lambda: transformers_vectors(folder, texts, model.context, size)
    )
    count = len(asked.paragraphs)
    scores = {
        'lm': ours.vectors_ND[count:] @ ours.vectors_ND[:count].T,
        'transformers': theirs_ND[count:] @ theirs_ND[:count].T,
        'bm25': timed('bm25', lambda: bm25(asked)),
    }
    return {
        'paragraphs': count,
        'questions': len(asked.questions),
        'truncated': ours.truncated,
        'largest_difference': float(np.abs(ours.vectors_ND - theirs_ND).max()),
        **analyze(scores, asked),
        'seconds': seconds,
    }


def _require_peers() -> None:
    """Refuses to begin where something that is compared with is missing."""
    from importlib.util import find_spec

    for package in ('bm25s', 'torch', 'transformers'):
        if find_spec(package) is None:
            raise UserError(f"--source: needs the package {package}; pip install 'lm-lab[peers]'")


if __name__ == '__main__':
    sys.exit(main())
