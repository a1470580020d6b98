"""Text to ids and back: what a tokenizer is, and how one is trained or read.

One trained here is a SentencePiece model. An existing one is used as it is, be it SentencePiece's
or a `tokenizer.json`; special ids that it lacks come after its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, SupportsIndex, runtime_checkable

import numpy as np
from jaxtyping import Int

from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
from lm.data.sentencepiece_training import train_model
from lm.data.special_ids import TRAINED_WITH
from lm.errors import UserError
from lm.vocabulary import Vocabulary

CONTENTS = ('tokenizer.model', 'spiece.model', 'tokenizer.json', 'vocab.json', 'vocab.txt')
"""What makes a folder one of a tokenizer, the first that is there; vocab.json with merges.txt."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back, with the special ids that training needs.

    Attributes:
      vocabulary: the special ids and the number of all ids.
      lossless: whether `decode(encode(text)) == text` for every text.
      sha256: of its files, hexadecimal.
      files: what to write into a folder so that `load_tokenizer` gives an equal one, by name.
    """

    vocabulary: Vocabulary
    lossless: bool
    sha256: str
    files: dict[str, bytes]

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens], without bos or eos; no special id ever comes out of text but unk."""

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""

    def encode_aligned(
        self, texts: Sequence[str]
    ) -> list[tuple[Int[np.ndarray, ' n'], Int[np.ndarray, 'n 2']]]:
        """`encode` of each text, and which of its characters each id stands for.

        A span says from which character, counted from 0, and before which. Ids that make up one
        character, as bytes do, have the span of that character each. Characters that no id stands
        for lie between spans: blanks, what a normalisation drops. A blank that an id has in front,
        as of SentencePiece, may be in its span or not; one that a tokenizer puts in is in none.

        Returns:
          for each text int32 [n] and int32 [n, 2].
        """

    def decode(self, ids: Iterable[SupportsIndex] | np.ndarray) -> str:
        """The text of `ids`; special ids and ids beyond the tokenizer's own are left out."""

    def pieces(self, ids: Iterable[SupportsIndex] | np.ndarray) -> list[str]:
        """A readable piece for every id; a space is shown as U+2581."""


def train_tokenizer(
    kind: str, texts: Iterable[str], vocab_size: int | None
) -> SentencePieceTokenizer:
    """A tokenizer trained on `texts`; see `sentencepiece_training.train_model`.

    Args:
      kind: `unigram`, `bpe`, `char` or `word`.
      texts: training documents, read once.
      vocab_size: ids in all; None: a default, or what the text supports.

    Raises:
      UserError: an unknown kind, or a vocabulary larger or smaller than the text supports.
    """
    return SentencePieceTokenizer(train_model(kind, texts, vocab_size))


def has_tokenizer(folder: str | Path) -> bool:
    """Whether `load_tokenizer` finds files to read in this folder."""
    return _content(Path(folder)) is not None


def load_tokenizer(
    path: str | Path, rows: int | None = None, words: str = TRAINED_WITH
) -> Tokenizer:
    """An existing tokenizer.

    Args:
      path: a SentencePiece `.model`, a `tokenizer.json`, BERT's `vocab.txt`, GPT-2's `vocab.json`
        or `merges.txt`, or a folder that holds one of them: the first of `CONTENTS`.
      rows: ids that the model has, which bound the special ids after the tokenizer's own; None:
        as many as it takes.
      words: the field or flag that gives the path, for errors.

    Raises:
      UserError: there is none, it cannot be read, or it has more ids than `rows`.
    """
    file = Path(path)
    if file.is_dir():
        found = _content(file)
        if found is None:
            raise UserError(
                f'{words}={path}: holds no tokenizer; there should be one of '
                f'{", ".join(CONTENTS)} (with merges.txt)'
            )
        file = found
    try:
        return _read(file, rows, path, words)
    except OSError as error:
        name = path if error.filename is None else error.filename
        raise UserError(f'{words}={name}: cannot be read: {error.strerror}') from None


def _content(folder: Path) -> Path | None:
    for name in CONTENTS:
        whole = name != 'vocab.json' or (folder / 'merges.txt').is_file()
        if whole and (folder / name).is_file():
            return folder / name
    return None


def _read(file: Path, rows: int | None, path: str | Path, words: str) -> Tokenizer:
    from lm.data.json_tokenizer import JsonTokenizer, files_beside
    from lm.data.sentencepiece_added import with_added_tokens
    from lm.data.vocabulary_files import byte_level, wordpiece

    files: Mapping[str, bytes]
    if file.name in ('vocab.json', 'merges.txt'):
        files = byte_level(file.parent, words)
    elif file.name.endswith('vocab.txt'):
        files = wordpiece(file, words)
    elif file.suffix == '.json':
        files = files_beside(file)
    else:
        model = file.read_bytes()
        try:
            if file.name in CONTENTS:
                model = with_added_tokens(model, file.parent, words)
            return SentencePieceTokenizer(model, rows, path, words)
        except RuntimeError:
            raise UserError(
                f'{words}={path}: not a SentencePiece model; give the .model file that '
                '`lm tokenizer` or SentencePiece wrote, or a tokenizer.json'
            ) from None
    return JsonTokenizer(files, rows, path, words)
