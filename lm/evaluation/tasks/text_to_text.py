"""Texts that are said to texts: exact matches, error rates, BLEU, chrF and ROUGE.

BLEU and chrF are sacreBLEU's (Post 2018), ROUGE that of the package rouge-score with stemming; both
come with the extra `tasks`. What is told of them is a percentage, as the field has it; the others
are shares.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from lm.errors import UserError
from lm.evaluation.examples import Answer, Examined
from lm.evaluation.measures.edit_distance import token_error_rate
from lm.generation.answers import Search, drawn, searched
from lm.generation.asked import ask_task
from lm.generation.sample import keys_of
from lm.generation.sampling import Sampling
from lm.objectives._labelled import fields_of

MEASURES = (
    'exact_match', 'token_error_rate', 'bleu', 'chrf', 'rouge1', 'rouge2', 'rougeL',
)  # fmt: skip
DEFAULT = 2
GREEDY = Sampling(temperature=0.0)


def answers(examined: Examined) -> list[Answer]:
    """The target of each example, and the likeliest text that a search of its width finds."""
    model = examined.model
    pairs = [fields_of(examined.rows.example(i), 2) for i in range(examined.count)]
    asked = [ask_task(model, given) for given, _ in pairs]
    longest = max(len(said) for _, said in pairs) + 1
    if examined.num_beams is None:
        keys_J1 = keys_of(0, len(asked), 1)
        texts = drawn(model, asked, GREEDY, keys_J1, longest)
    else:
        texts = searched(model, asked, Search(examined.num_beams), 1, longest)
    decode = model.tokenizer.decode
    return [
        Answer(decode(said).strip(), text.strip())
        for (_, said), text in zip(pairs, texts, strict=True)
    ]


def measures(found: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """Those of `names`.

    `token_error_rate` is of words as spaces cut them: phonemes, where these are.

    Raises:
      UserError: one needs a package that is not installed.
    """
    said = [answer.said for answer in found]
    expected = [answer.expected for answer in found]
    return {name: _MEASURES[name](said, expected, name) for name in names}


def _exact_match(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    del name
    return sum(map(str.__eq__, said, expected)) / max(len(said), 1)


def _token_error_rate(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    del name
    right = [[text.split()] for text in expected]
    return token_error_rate([text.split() for text in said], right)


def _sacrebleu(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    package = _package('sacrebleu', name)
    score: float = getattr(package, f'corpus_{name}')(list(said), [list(expected)]).score
    return score


def _rouge(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    scorer = _package('rouge_score.rouge_scorer', name).RougeScorer([name], use_stemmer=True)
    pairs = zip(expected, said, strict=True)
    scores = [scorer.score(right, text)[name].fmeasure for right, text in pairs]
    return 100 * sum(scores) / max(len(scores), 1)


_MEASURES: dict[str, Callable[[Sequence[str], Sequence[str], str], float]] = {
    'exact_match': _exact_match,
    'token_error_rate': _token_error_rate,
    'bleu': _sacrebleu,
    'chrf': _sacrebleu,
    'rouge1': _rouge,
    'rouge2': _rouge,
    'rougeL': _rouge,
}


def _package(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f'eval.measures={name}: needs the package {module.partition(".")[0]}; pip install '
            "'lm-lab[tasks]'"
        ) from None
