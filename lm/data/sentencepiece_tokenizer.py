"""A SentencePiece model as a tokenizer.

One trained here keeps any text byte for byte, but for the `word` kind; another is used as it is.
"""

import functools
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from lm.data.alignment import Origin, end_to_end
from lm.data.escape import SPELLINGS, escape, unescape
from lm.data.roles import SPELLED
from lm.data.sentencepiece_training import SPECIAL_PIECES, WORD_TOKEN, stretch_end, word_spelling
from lm.data.special_ids import BOS, EOS, PAD, TRAINED_WITH, UNK, complete
from lm.vocabulary import Vocabulary

# Long texts are encoded in stretches: bounded memory, and work for several threads.
_STRETCH_CHARS = 1 << 16
PROBE = 'A  b\t\n\n c\u00e9 \u2581\u2585 \0\x10 <s><mask> \U0001f600\u0301 '


class SentencePieceTokenizer:
    """A SentencePiece model with the special ids that training needs.

    Attributes:
      vocabulary: the special ids and the number of all ids.
      lossless: whether `decode(encode(text)) == text` for every text.
      sha256: of the model's bytes, hexadecimal.
      files: the model under the name that a workdir has it by.
      trained_here: whether text is escaped (`lm.data.escape`, or the spelling of `word`).
      appended: the pieces of special ids after the model's own, by id.
    """

    def __init__(
        self,
        model: bytes,
        rows: int | None = None,
        path: str | Path = '',
        words: str = TRAINED_WITH,
    ):
        """
        Args:
          model: a serialised SentencePiece model.
          rows: ids that the model trained with it has; None: as many as it takes.
          path: where it comes from, for errors.
          words: the field or flag that gives the path.

        Raises:
          RuntimeError: it is none.
          UserError: it has more ids than `rows`.
        """
        import sentencepiece

        if not model:  # of which the package would print more than it raises
            raise RuntimeError('is empty')
        self.files = {'tokenizer.model': model}
        self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.sha256 = hashlib.sha256(model).hexdigest()
        own = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
        self.trained_here = tuple(own[: len(SPECIAL_PIECES)]) == SPECIAL_PIECES
        self._has_bytes = any(map(self._processor.is_byte, range(len(own))))
        self._words = self.trained_here and not self._has_bytes
        self.vocabulary, self.appended = self._special_ids(own, rows, path, words)
        self.vocabulary = replace(self.vocabulary, pieces=self.pieces)
        self._literals = self._matched_literals()
        self.lossless = self.decode(self.encode(PROBE)) == PROBE

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens], without bos or eos; no special id ever comes out of text but unk."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""
        cut = [self._stretches(text) for text in texts]
        ids = iter(self._processor.encode(_flat(cut), num_threads=_threads()))
        return [
            np.concatenate([_EMPTY, *(np.asarray(next(ids), np.int32) for _ in parts)])
            for parts in cut
        ]

    def encode_aligned(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`encode` of each text with the characters of each id; see `Tokenizer`."""
        cut = [self._stretches(text) for text in texts]
        found = iter(
            self._processor.encode(_flat(cut), num_threads=_threads(), return_type='offset_mapping')
        )
        aligned = []
        for text, parts in zip(texts, cut, strict=True):
            ids, spans_n2 = end_to_end([(part, *_aligned(next(found))) for part in parts])
            aligned.append((ids, self._origin(text).of(spans_n2)))
        return aligned

    def _origin(self, text: str) -> Origin:
        """Where the characters that the processor reads come from."""
        if not self.trained_here:
            return Origin.same(text)
        if not self._words:
            return Origin.respelled(text, SPELLINGS)
        pieces = []
        for match in WORD_TOKEN.finditer(text):
            pieces.append((match.start(), match.start(), 1))  # the blank that is put before it
            pieces += [(i, i + 1, 1) for i in range(match.start(), match.end())]
        return Origin.of_pieces(pieces)

    def decode(self, ids: Iterable[SupportsIndex] | np.ndarray) -> str:
        """The text of `ids`; special ids and ids beyond the tokenizer's own are left out."""
        special = self.vocabulary.special_ids
        size = self._processor.get_piece_size()
        text = self._processor.decode([i for i in map(int, ids) if i not in special and i < size])
        if self._words:
            return re.sub(' ?\n ?', '\n', text.removeprefix(' '))
        return unescape(text) if self.trained_here else text

    def pieces(self, ids: Iterable[SupportsIndex] | np.ndarray) -> list[str]:
        """A readable piece for every id; a space is shown as SentencePiece shows it, U+2581."""
        size = self._processor.get_piece_size()
        shown = []
        for i in map(int, ids):
            piece = self._processor.id_to_piece(i) if 0 <= i < size else self.appended.get(i, '')
            shown.append(piece or f'<{i}>')
        return [unescape(p) for p in shown] if self.trained_here else shown

    def save(self, path: str | Path) -> None:
        """Writes the SentencePiece model; `load_tokenizer` gives an equal tokenizer."""
        Path(path).write_bytes(self.files['tokenizer.model'])

    def _stretches(self, text: str) -> list[str]:
        """`text` as the processor reads it, in parts that are encoded one by one."""
        if not self.trained_here:
            return _cut_inside(text, self._literals)
        spelled = word_spelling(text) if self._words else escape(text)
        parts, start = [], 0
        while start < len(spelled):
            stop = stretch_end(spelled, start, _STRETCH_CHARS)
            parts.append(spelled[start:stop])
            start = stop
        return parts

    def _special_ids(
        self, own: list[str], rows: int | None, path: str | Path, words: str
    ) -> tuple[Vocabulary, dict[int, str]]:
        """The vocabulary, and the pieces appended for what the model lacks, by id."""
        processor = self._processor
        ids = {
            piece: i
            for i, piece in enumerate(own)
            if processor.is_control(i) or i in self._user_defined
        }
        usual = {part: [ids[s] for s in spelled if s in ids] for part, spelled in SPELLED.items()}
        known = {part: found[0] for part, found in usual.items() if found}
        known |= {piece: i for piece, i in ids.items() if piece in _NAMES}
        named = {
            PAD: processor.pad_id(),
            BOS: processor.bos_id(),
            EOS: processor.eos_id(),
            UNK: processor.unk_id(),
        }
        known |= {piece: i for piece, i in named.items() if i >= 0}
        if self._proto.trainer_spec.pad_piece == own[known[UNK]]:  # which the processor denies
            known[PAD] = known[UNK]
        return complete(len(own), known, rows, path, words)

    @functools.cached_property
    def _user_defined(self) -> frozenset[int]:
        # The processor has no question for this type; the model's own table has.
        kind = self._proto.SentencePiece.USER_DEFINED
        return frozenset(i for i, piece in enumerate(self._proto.pieces) if piece.type == kind)

    @functools.cached_property
    def _proto(self) -> Any:
        from sentencepiece import sentencepiece_model_pb2

        message: Any = sentencepiece_model_pb2
        return message.ModelProto.FromString(self.files['tokenizer.model'])

    def _matched_literals(self) -> re.Pattern[str] | None:
        """Spellings that this model would turn into special ids: its user-defined symbols."""
        special = self.vocabulary.special_ids & self._user_defined
        if not special:
            return None
        spelled = sorted((self._processor.id_to_piece(i) for i in special), key=len, reverse=True)
        return re.compile('|'.join(map(re.escape, spelled)))


def _aligned(found: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and spans of what the processor says, whole characters for their parts."""
    spans_n2 = np.asarray(found['offsets'], np.int32).reshape(-1, 2)
    # Of several pieces that make up a character all but the last have no width.
    for place in reversed(range(len(spans_n2) - 1)):
        (begin, end), following = spans_n2[place], spans_n2[place + 1]
        if begin == end == following[0] and found['pieces'][place] != _BLANK:
            spans_n2[place, 1] = following[1]
    return np.asarray(found['ids'], np.int32), spans_n2


def _flat(cut: Sequence[list[str]]) -> list[str]:
    return [part for parts in cut for part in parts]


def _threads() -> int:
    return os.cpu_count() or 1


_BLANK = '\u2581'
_EMPTY = np.empty(0, np.int32)
_NAMES = frozenset(SPECIAL_PIECES)


def _cut_inside(text: str, literals: re.Pattern[str] | None) -> list[str]:
    """`text` cut within every spelling of `literals`, so that none is matched as a symbol."""
    if literals is None:
        return [text]
    cuts = [0, *(match.start() + 1 for match in literals.finditer(text)), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(cuts)]
