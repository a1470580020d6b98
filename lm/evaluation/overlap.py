"""How much of evaluation texts was in the training text: GPT-3's check for contamination.

Brown et al. 2020 (arXiv:2005.14165), section 4 and appendix C: a text is dirty where 13 words in a
row of it occur in a row in a document of the training text. Words are what lies between blanks,
lower-cased and without punctuation, so a script that has no blanks has few words by this rule, and
its texts mostly count as too short.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt64

N = 13
"""Words of an n-gram: GPT-3's filter has 13, which is also the most that its analysis takes."""

Hashes = UInt64[np.ndarray, ' w']

_STRETCH = 1 << 20  # characters of a document, and words, that are looked at at once
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no bit of a word's hash is lost
_NO_WORD = 0


class Overlap(NamedTuple):
    """What evaluation texts share with the training text.

    Attributes:
      n: words of an n-gram.
      texts: evaluation texts.
      dirty: those with at least one n-gram that occurs in the training text.
      too_short: those of fewer than n words, which have no n-gram and are never dirty here. (GPT-3
        takes such a text as dirty where the training text has all of it, which of a text of a few
        words says little: it compares by no fewer than 8.)
      ngrams: of all texts, as often as they occur there.
      shared_ngrams: those of them that occur in the training text.
      covered_words: the share of the texts' words that lie in a shared n-gram, from 0 to 1.
    """

    n: int
    texts: int
    dirty: int
    too_short: int
    ngrams: int
    shared_ngrams: int
    covered_words: float


def overlap(training: Iterable[str], texts: Sequence[str], n: int = N) -> Overlap:
    """Which n-grams of `texts` occur in `training`.

    The training text is read once, a stretch at a time; what is held are the evaluation texts and
    64 bits of each of their n-grams. Another n-gram has the same 64 bits by a chance of 1 in 2^64
    for each pair. No n-gram reaches over the end of a document. Unlike GPT-3's filter, and like
    its analysis, this also counts n-grams that many training documents have.

    Args:
      training: the documents of the training text.
      texts: evaluation texts, each compared as a whole.
      n: words of an n-gram, at least 1.
    """
    texts_words = [words_of(text) for text in texts]
    hashes = {word: _word_hash(word) for words in texts_words for word in words}
    found_in = [_ngrams(_as_array(words, hashes), n) for words in texts_words]
    wanted = np.unique(np.concatenate([np.zeros(0, np.uint64), *found_in]))
    met = np.zeros(len(wanted), bool)
    if len(wanted):
        for stretch in _stretches(training, hashes, n):
            seen = _ngrams(stretch, n)
            places = np.searchsorted(wanted[:-1], seen)
            met[places[wanted[places] == seen]] = True
    shared = [met[np.searchsorted(wanted, ngrams)] for ngrams in found_in]
    covered = sum(_covered(of_text, n) for of_text in shared)
    return Overlap(
        n=n,
        texts=len(texts),
        dirty=sum(bool(of_text.any()) for of_text in shared),
        too_short=sum(len(words) < n for words in texts_words),
        ngrams=sum(map(len, shared)),
        shared_ngrams=sum(int(of_text.sum()) for of_text in shared),
        covered_words=covered / max(1, sum(map(len, texts_words))),
    )


def words_of(text: str) -> list[str]:
    """The words of a text, lower-cased, without punctuation and symbols (`$`, `+`, `|`)."""
    return text.lower().translate(_without_punctuation()).split()


@cache
def _without_punctuation() -> dict[int, None]:
    return {i: None for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i))[0] in 'PS'}


def _word_hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode(errors='surrogatepass'), digest_size=8).digest()
    return int.from_bytes(digest, 'big')


def _as_array(words: Sequence[str], hashes: Mapping[str, int]) -> Hashes:
    """The hash of each word; those that no evaluation text has are all alike."""
    return np.array([hashes.get(word, _NO_WORD) for word in words], np.uint64)


def _ngrams(words: Hashes, n: int) -> UInt64[np.ndarray, ' g']:
    """The hash of each n words in a row: a polynomial of theirs, modulo 2^64."""
    count = max(0, len(words) - n + 1)
    total = np.zeros(count, np.uint64)
    for i in range(n):
        total = total * _BASE + words[i : i + count]
    return total


def _stretches(training: Iterable[str], hashes: Mapping[str, int], n: int) -> Iterator[Hashes]:
    """The words of the training text; the last n - 1 of a stretch come again in the next."""
    held: list[Hashes] = []
    size = 0
    end = np.full(1, _NO_WORD, np.uint64)
    for document in training:
        for words in _cut(document):
            held.append(_as_array(words, hashes))
            size += len(words)
            if size >= _STRETCH:
                yield np.concatenate(held)
                held = [np.concatenate(held)[-(n - 1) :]] if n > 1 else []
                size = 0
        held.append(end)
    yield np.concatenate([*held, end])


def _cut(document: str) -> Iterator[list[str]]:
    """The words of a document, some at a time."""
    start = 0
    while start < len(document):
        stop = start + _STRETCH
        while stop < len(document) and not document[stop].isspace():
            stop += 1
        yield words_of(document[start:stop])
        start = stop


def _covered(shared: np.ndarray, n: int) -> int:
    """How many words lie in an n-gram that is shared, given which n-grams are."""
    steps = np.zeros(len(shared) + n, np.int64)
    steps[: len(shared)] += shared
    steps[n:] -= shared
    return int((np.cumsum(steps) > 0).sum())
