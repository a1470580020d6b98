"""Entities of sentences: precision, recall and F1 over all of them, as CoNLL counts.

An entity is right where its type, first and last word are (Tjong Kim Sang & De Meulder 2003,
section 3.1). By default an `I-TYPE` that follows no entity of its type begins one, as in
`conlleval` and the package seqeval; the strict measures read IOB2 by the letter, as seqeval's
`mode='strict', scheme=IOB2`: there only `B-TYPE` begins one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lm.evaluation.examples import Answer, Examined
from lm.examples import as_text
from lm.objectives._labelled import fields_of

MEASURES = (
    'entity_f1', 'entity_precision', 'entity_recall', 'tag_accuracy',
    'strict_entity_f1', 'strict_entity_precision', 'strict_entity_recall', 'unread_words',
)  # fmt: skip
DEFAULT = 3
OUTSIDE = 'O'


class Entity(NamedTuple):
    """Words `first` to `last`, both counted in, are of this type."""

    kind: str
    first: int
    last: int


def answers(examined: Examined) -> list[Answer]:
    """The tags of each sentence; None is said of a word that no token stands for."""
    assert examined.predictions is not None
    labels = examined.model.config.objective.options.labels
    told = []
    for number, said_T in enumerate(examined.predictions[: examined.count]):
        _, firsts, tags = fields_of(examined.rows.example(number), 3)
        said = [None if first < 0 else labels[said_T[first + 1]] for first in firsts]
        told.append(Answer(as_text(tags).split(' '), said))
    return told


def entities(tags: Sequence[str], *, strict: bool = False) -> list[Entity]:
    """The entities of a sentence in their order.

    Args:
      tags: `O`, `B-TYPE` or `I-TYPE` of each word.
      strict: only `B-TYPE` begins an entity, and what `I-TYPE` cannot go on with is none.
    """
    found: list[Entity] = []
    open_kind = ''  # of the entity that the word before belongs to
    for place, tag in enumerate(tags):
        letter, _, kind = tag.partition('-')
        if letter == 'I' and kind == open_kind:
            found[-1] = found[-1]._replace(last=place)
        elif letter == 'B' or (letter == 'I' and not strict):
            found.append(Entity(kind, place, place))
            open_kind = kind
        else:
            open_kind = ''
    return found


def measures(found: Sequence[Answer], names: Sequence[str]) -> dict[str, float]:
    """Every measure, those of entities 0 where there are none to be right.

    `tag_accuracy` is of all words, and `unread_words` the number of those that no token stands
    for, which count as `O`.
    """
    del names
    pairs = [(a.expected, [tag or OUTSIDE for tag in a.said]) for a in found]
    right = sum(x == y for expected, said in pairs for x, y in zip(expected, said, strict=True))
    words = sum(len(expected) for expected, _ in pairs)
    return {
        **_of_entities(pairs, '', strict=False),
        **_of_entities(pairs, 'strict_', strict=True),
        'tag_accuracy': right / max(words, 1),
        'unread_words': sum(a.said.count(None) for a in found),
    }


def _of_entities(
    pairs: Sequence[tuple[list[str], list[str]]], before: str, *, strict: bool
) -> dict[str, float]:
    """Precision, recall and their harmonic mean over the entities of all sentences."""
    there = said = right = 0
    for expected_tags, said_tags in pairs:
        expected = {*entities(expected_tags, strict=strict)}
        predicted = {*entities(said_tags, strict=strict)}
        there += len(expected)
        said += len(predicted)
        right += len(expected & predicted)
    return {
        f'{before}entity_precision': right / max(said, 1),
        f'{before}entity_recall': right / max(there, 1),
        f'{before}entity_f1': 2 * right / max(there + said, 1),
    }
