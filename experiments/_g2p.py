"""The CMU pronouncing dictionary as examples of a task: letters in, phonemes out.

A line of `cmudict.dict` is a word and its phonemes; a further pronunciation is of `word(2)`; what
follows a `#` is a comment. A vowel ends in a digit, its stress, which published error rates are
mostly without: then there are 39 phonemes, and pronunciations that differed by stress are one.

The split is by word, so that no spelling that is asked for was trained on; inflected forms and
compounds of a word may be on different sides, as in the published splits. It is a hash of the
spelling, whatever else the dictionary holds.

Only spellings of letters and apostrophes are taken, the 27 graphemes of the published figures: of
126,052 words 1,126 have hyphens or full stops.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from lm.errors import UserError

Pronunciation: TypeAlias = tuple[str, ...]
"""Phonemes, such as `AH0`."""

SHARES = {'train': 0.88, 'validation': 0.02, 'test': 0.10}
"""Of words, nearly as in Yao and Zweig 2015, section 4.1, and those who follow them: 106,837 words
of which 2,670 are held out, and 12,000 to test on."""

GRAPHEMES = "'abcdefghijklmnopqrstuvwxyz"

_VARIANT = re.compile(r'\(\d+\)$')
_PHONEME = re.compile(r'[A-Z]+[0-2]?')


def read_dictionary(path: str, *, stress: bool) -> dict[str, list[Pronunciation]]:
    """Each word's pronunciations, no two alike, in the file's order.

    Args:
      path: a file such as `cmudict.dict`.
      stress: vowels keep their digits.

    Raises:
      UserError: it cannot be read, holds no word, or a line that is no word with its phonemes.
    """
    words: dict[str, list[Pronunciation]] = {}
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is not UTF-8'
        raise UserError(f'--source={path}: cannot be read ({reason})') from None
    for number, line in enumerate(lines, 1):
        spelled, *phonemes = line.partition('#')[0].split() or ['']
        if not spelled:
            continue
        if not phonemes or not all(map(_PHONEME.fullmatch, phonemes)):
            raise UserError(
                f'--source={path}: line {number} is no word with its phonemes: {line.strip()!r}'
            )
        said = tuple(phonemes if stress else (phoneme.rstrip('012') for phoneme in phonemes))
        known = words.setdefault(_VARIANT.sub('', spelled), [])
        if said not in known:
            known.append(said)
    if not words:
        raise UserError(f'--source={path}: holds no word')
    return words


def in_graphemes(words: Mapping[str, list[Pronunciation]]) -> dict[str, list[Pronunciation]]:
    """The words whose spellings are of `GRAPHEMES` alone."""
    return {word: said for word, said in words.items() if set(word) <= set(GRAPHEMES)}


def write_tokenizer(words: Mapping[str, list[Pronunciation]], folder: Path) -> tuple[Path, int]:
    """A tokenizer in which every grapheme and phoneme is a token: `tokenizer.json`.

    One trained on the text would leave out the rarest letter.

    Returns:
      The file, and how many ids there are with padding, bos and eos.
    """
    letters = {letter for word in words for letter in word}
    phonemes = {each for several in words.values() for said in several for each in said}
    vocabulary = {token: i for i, token in enumerate(['<unk>', *sorted(letters | phonemes)])}
    unknown = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'normalized'), False)
    described = {
        'version': '1.0',
        'added_tokens': [{'id': 0, 'content': '<unk>', 'special': True, **unknown}],
        'pre_tokenizer': {'type': 'WhitespaceSplit'},
        'model': {'type': 'WordLevel', 'vocab': vocabulary, 'unk_token': '<unk>'},
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / 'tokenizer.json'
    file.write_text(json.dumps(described, indent=1), encoding='utf-8')
    return file, len(vocabulary) + 3


def drawn(word: str) -> float:
    """A number in [0, 1) that is a word's own; the first of words in this order are a sample."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], 'big') / 2**64


def part_of(word: str) -> str:
    """The part of the split that a word is in."""
    place, reached = drawn(word), 0.0
    for part, share in SHARES.items():
        reached += share
        if place < reached:
            return part
    return part


def write_examples(words: Mapping[str, list[Pronunciation]], folder: Path) -> dict[str, Path]:
    """A JSONL file a part, a record a pronunciation, with letters and phonemes apart by spaces.

    Returns:
      The files by part.

    Raises:
      UserError: a part is left without a word.
    """
    lines: dict[str, list[str]] = {part: [] for part in SHARES}
    for word, pronunciations in words.items():
        for phonemes in pronunciations:
            record = {'input': ' '.join(word), 'target': ' '.join(phonemes), 'id': word}
            lines[part_of(word)].append(json.dumps(record) + '\n')
    files = {}
    for part, records in lines.items():
        if not records:
            raise UserError(f'--source: has {len(words)} words, of which none is in {part}')
        files[part] = folder / f'{part}.jsonl'
        folder.mkdir(parents=True, exist_ok=True)
        files[part].write_text(''.join(records), encoding='utf-8')
    return files
