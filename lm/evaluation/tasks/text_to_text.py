"""Texts that are said to texts: exact matches, error rates, BLEU, chrF and ROUGE.

BLEU and chrF are sacreBLEU's (Post 2018), ROUGE that of the package rouge-score with stemming; both
come with the extra `tasks`. What is told of them is a percentage, as the field has it; the others
are shares.
"""

import importlib
from collections.abc import Callable, Sequence

from lm.errors import UserError
from lm.evaluation.examples import Answer, Examined
from lm.evaluation.measures.edit_distance import token_error_rate
from lm.examples import as_text
from lm.generation.answers import Search, drawn, searched
from lm.generation.asked import ask_task
from lm.generation.sample import keys_of
from lm.generation.sampling import Sampling
from lm.objectives._labelled import fields_of
from lm.objectives.text_to_text import TextToText

MEASURES = (
    'exact_match', 'token_error_rate', 'bleu', 'chrf', 'rouge1', 'rouge2', 'rougeL',
)  # fmt: skip
DEFAULT = 2
PACKAGES = {
    **dict.fromkeys(('bleu', 'chrf'), 'sacrebleu'),
    **dict.fromkeys(('rouge1', 'rouge2', 'rougeL'), 'rouge_score'),
}
"""What some of them need, of the extra `tasks`."""
GREEDY = Sampling(temperature=0.0)


def answers(examined: Examined) -> list[Answer]:
    """The target of each example as its record has it, and what the model says.

    That is the likeliest text that a search of its width finds. A decoder's input is cut, where it
    may be, by the room of the longest answer, not of its own, which is not known to who asks.
    """
    model = examined.model
    objective = examined.objective
    assert isinstance(objective, TextToText)
    examples = [fields_of(examined.rows.example(i), 3) for i in range(examined.count)]
    longest = max(len(said) for _, said, _ in examples) + 1
    if objective.two_sided:
        longest = objective.target_len
    elif objective.options.target_len is not None:
        longest = objective.options.target_len
    given = [ids for ids, _, _ in examples]
    if objective.two_sided or objective.truncates:
        given = [objective.cut(ids, longest - 1) for ids in given]
    asked = [ask_task(model, ids) for ids in given]
    if examined.num_beams is None:
        keys_J1 = keys_of(0, len(asked), 1)
        texts = drawn(model, asked, GREEDY, keys_J1, longest)
    else:
        texts = searched(model, asked, Search(examined.num_beams), 1, longest)
    return [
        Answer(as_text(target).strip(), text.strip())
        for (_, _, target), text in zip(examples, texts, strict=True)
    ]


def measures(found: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """Those of `names`.

    `token_error_rate` is of words as spaces cut them: phonemes, where these are.

    Raises:
      UserError: no target holds a word, so there is no rate of errors.
    """
    said = [answer.said for answer in found]
    expected = [answer.expected for answer in found]
    return {name: _MEASURES[name](said, expected, name) for name in names}


def _exact_match(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    del name
    return sum(map(str.__eq__, said, expected)) / max(len(said), 1)


def _token_error_rate(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    right = [[text.split()] for text in expected]
    if not any(words for [words] in right):
        raise UserError(f'eval.measures={name}: no target holds a word; leave it out')
    return token_error_rate([text.split() for text in said], right)


def _sacrebleu(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    package = importlib.import_module('sacrebleu')
    score: float = getattr(package, f'corpus_{name}')(list(said), [list(expected)]).score
    return score


def _rouge(said: Sequence[str], expected: Sequence[str], name: str) -> float:
    package = importlib.import_module('rouge_score.rouge_scorer')
    scorer = package.RougeScorer([name], use_stemmer=True)
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
