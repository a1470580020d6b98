"""Pairs of texts as examples: translations of XQuAD's questions, and summaries of contracts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lm.data.split import name_hash
from lm.errors import UserError

HELD_OUT = 0.2
"""Of articles, or of contracts."""


class Pair(NamedTuple):
    """What is given and what is to be said, and what it is of: that decides the side of a split."""

    input: str
    target: str
    group: str


def read_translations(english: str, german: str) -> list[Pair]:
    """The questions of XQuAD's two files (Artetxe et al. 2020), which are translations.

    Raises:
      UserError: a file cannot be read, or their questions differ.
    """
    sides = [_questions('english', english), _questions('german', german)]
    if sides[0].keys() != sides[1].keys():
        raise UserError(f'--german={german}: has other questions than {english}')
    return [Pair(question, sides[1][key][0], group) for key, (question, group) in sides[0].items()]


def _questions(flag: str, path: str) -> dict[str, tuple[str, str]]:
    try:
        articles = json.loads(Path(path).read_text(encoding='utf-8'))['data']
        return {
            asked['id']: (asked['question'], str(number))
            for number, article in enumerate(articles)
            for paragraph in article['paragraphs']
            for asked in paragraph['qas']
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--{flag}={path}: is not in SQuAD's layout ({error})") from None


def read_summaries(path: str) -> list[Pair]:
    """Clauses of contracts and what they say in plain words (Manor and Li 2019).

    Raises:
      UserError: the file cannot be read, or is laid out otherwise.
    """
    try:
        records = json.loads(Path(path).read_text(encoding='utf-8')).values()
        return [Pair(r['original_text'], r['reference_summary'], r['doc']) for r in records]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'--summaries={path}: holds no clauses with summaries ({error})') from None


def divided(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs to train on and those held out, whole groups of them."""
    parts: dict[str, list[Pair]] = {'train': [], 'held_out': []}
    for pair in pairs:
        parts['held_out' if name_hash(pair.group) < HELD_OUT else 'train'].append(pair)
    return parts


def exchanged(pairs: Sequence[Pair]) -> list[Pair]:
    """The same targets with the inputs of others, of another group where there is one."""
    half = len(pairs) // 2
    inputs = [pair.input for pair in pairs]
    return [
        pair._replace(input=given)
        for pair, given in zip(pairs, inputs[half:] + inputs[:half], strict=True)
    ]


def write_pairs(folder: Path, parts: Mapping[str, Sequence[Pair]]) -> dict[str, Path]:
    """A JSONL file of `input` and `target` for each part; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, pairs in parts.items():
        paths[name] = folder / f'{name}.jsonl'
        lines = [json.dumps({'input': p.input, 'target': p.target}) for p in pairs]
        paths[name].write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return paths
