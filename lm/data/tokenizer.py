"""Text to ids and back, through SentencePiece.

A model trained here (`train_tokenizer`) keeps any text byte for byte, but for the `word` kind. An
existing `.model` (`load_tokenizer`) is used as it is; special ids that it lacks come after its own.
"""

import functools
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from lm.data.escape import escape, unescape
from lm.data.sentencepiece_training import (
    CONTROL_PIECES,
    SPECIAL_PIECES,
    stretch_end,
    train_model,
    word_spelling,
)
from lm.errors import UserError
from lm.vocabulary import NUM_SENTINELS, Vocabulary

# Long texts are encoded in stretches: bounded memory, and work for several threads.
_STRETCH_CHARS = 1 << 16
_PROBE = 'A  b\t\n\n c\u00e9 \u2581\u2585 \0\x10 <s><mask> \U0001f600\u0301 '


class Tokenizer:
    """A SentencePiece model with every special id that training needs.

    Attributes:
      vocabulary: the special ids and the number of all ids.
      lossless: whether `decode(encode(text)) == text` for every text.
      sha256: of the model's bytes, hexadecimal.
    """

    def __init__(self, model: bytes):
        """
        Args:
          model: a serialised SentencePiece model.

        Raises:
          RuntimeError: it is none.
        """
        import sentencepiece

        self._model = model
        self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.sha256 = hashlib.sha256(model).hexdigest()
        own = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
        self._trained_here = tuple(own[: len(SPECIAL_PIECES)]) == SPECIAL_PIECES
        self._has_bytes = any(map(self._processor.is_byte, range(len(own))))
        self._words = self._trained_here and not self._has_bytes
        self.vocabulary, self._appended = self._special_ids(own)
        self._literals = self._matched_literals()
        self.lossless = self.decode(self.encode(_PROBE)) == _PROBE

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens], without bos or eos; no special id ever comes out of text but unk."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""
        stretches: list[str] = []
        counts: list[int] = []
        for text in texts:
            parts = self._stretches(text)
            stretches.extend(parts)
            counts.append(len(parts))
        ids = iter(self._processor.encode(stretches, num_threads=os.cpu_count() or 1))
        return [
            np.concatenate([_EMPTY, *(np.asarray(next(ids), np.int32) for _ in range(count))])
            for count in counts
        ]

    def decode(self, ids: Iterable[SupportsIndex] | np.ndarray) -> str:
        """The text of `ids`; special ids and ids beyond the tokenizer's own are left out."""
        special = self.vocabulary.special_ids
        size = self._processor.get_piece_size()
        text = self._processor.decode([i for i in map(int, ids) if i not in special and i < size])
        if self._words:
            return re.sub(' ?\n ?', '\n', text.removeprefix(' '))
        return unescape(text) if self._trained_here else text

    def pieces(self, ids: Iterable[SupportsIndex] | np.ndarray) -> list[str]:
        """A readable piece for every id; a space is shown as SentencePiece shows it, U+2581."""
        size = self._processor.get_piece_size()
        shown = []
        for i in map(int, ids):
            piece = self._processor.id_to_piece(i) if 0 <= i < size else self._appended.get(i, '')
            shown.append(piece or f'<{i}>')
        return [unescape(p) for p in shown] if self._trained_here else shown

    def save(self, path: str | Path) -> None:
        """Writes the SentencePiece model; `load_tokenizer` gives an equal tokenizer."""
        Path(path).write_bytes(self._model)

    def _stretches(self, text: str) -> list[str]:
        """`text` as the processor reads it, in parts that are encoded one by one."""
        if not self._trained_here:
            return _cut_inside(text, self._literals)
        spelled = word_spelling(text) if self._words else escape(text)
        parts, start = [], 0
        while start < len(spelled):
            stop = stretch_end(spelled, start, _STRETCH_CHARS)
            parts.append(spelled[start:stop])
            start = stop
        return parts

    def _special_ids(self, own: list[str]) -> tuple[Vocabulary, dict[int, str]]:
        """The vocabulary, and the pieces appended for what the model lacks, by id."""
        appended: dict[int, str] = {}
        processor = self._processor
        known = {
            piece: i
            for i, piece in enumerate(own)
            if piece in _NAMES and (processor.is_control(i) or i in self._user_defined)
        }

        def find(piece: str, given: int = -1) -> int:
            if given < 0 and piece not in known:
                known[piece] = len(own) + len(appended)
                appended[known[piece]] = piece
            return given if given >= 0 else known[piece]

        pad = find('<pad>', processor.pad_id())
        bos = find('<s>', processor.bos_id())
        eos = find('</s>', processor.eos_id())
        ids = [find(piece) for piece in CONTROL_PIECES]
        vocabulary = Vocabulary(
            size=len(own) + len(appended),
            pad_id=pad,
            bos_id=bos,
            eos_id=eos,
            unk_id=processor.unk_id(),
            mask_id=ids[0],
            sentinel_ids=tuple(ids[1 : 1 + NUM_SENTINELS]),
            mode_ids=tuple(ids[1 + NUM_SENTINELS :]),
        )
        return vocabulary, appended

    @functools.cached_property
    def _user_defined(self) -> frozenset[int]:
        # The processor has no question for this type; the model's own table has.
        from sentencepiece import sentencepiece_model_pb2

        message: Any = sentencepiece_model_pb2
        proto = message.ModelProto.FromString(self._model)
        kind = message.ModelProto.SentencePiece.USER_DEFINED
        return frozenset(i for i, piece in enumerate(proto.pieces) if piece.type == kind)

    def _matched_literals(self) -> re.Pattern[str] | None:
        """Spellings that this model would turn into special ids: its user-defined symbols."""
        special = self.vocabulary.special_ids & self._user_defined
        if not special:
            return None
        spelled = sorted((self._processor.id_to_piece(i) for i in special), key=len, reverse=True)
        return re.compile('|'.join(map(re.escape, spelled)))


_EMPTY = np.empty(0, np.int32)
_NAMES = frozenset(SPECIAL_PIECES)


def _cut_inside(text: str, literals: re.Pattern[str] | None) -> list[str]:
    """`text` cut within every spelling of `literals`, so that none is matched as a symbol."""
    if literals is None:
        return [text]
    cuts = [0, *(match.start() + 1 for match in literals.finditer(text)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts)]


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int | None) -> Tokenizer:
    """A tokenizer trained on `texts`; see `sentencepiece_training.train_model`.

    Args:
      kind: `unigram`, `bpe`, `char` or `word`.
      texts: training documents, read once.
      vocab_size: ids in all; None: a default, or what the text supports.

    Raises:
      UserError: an unknown kind, or a vocabulary larger or smaller than the text supports.
    """
    return Tokenizer(train_model(kind, texts, vocab_size))


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a SentencePiece `.model` file.

    Raises:
      UserError: there is no such file, or it is not a SentencePiece model.
    """
    try:
        model = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'data.tokenizer={path}: cannot be read: {error.strerror}') from None
    try:
        return Tokenizer(model)
    except RuntimeError:
        raise UserError(
            f'data.tokenizer={path}: not a SentencePiece model; give the .model file that '
            '`lm tokenizer` or SentencePiece wrote'
        ) from None
