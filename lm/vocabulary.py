"""The ids with a meaning of their own: what objectives and generation know of a tokenizer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int

NUM_SENTINELS = 100
MODES = ('[R]', '[S]', '[X]')
"""UL2's mode tokens: regular, sequential and extreme denoising (Tay et al. 2022, section 3.1)."""


@dataclass(frozen=True)
class Vocabulary:
    """Special ids of a tokenizer. None of them ever comes out of raw text, but `unk_id`.

    Attributes:
      size: number of ids, specials included; all ids are below it.
      pad_id, bos_id, eos_id, unk_id: the usual four; some may be one id (GPT-2 has only eos).
      mask_id: of masked language modelling, or None.
      sentinel_ids: `<extra_id_0>` and on, in the order in which span corruption uses them, or none.
      mode_ids: UL2's mode tokens, in the order of `MODES`, or none.
      pieces: ids to their pieces, as `Tokenizer.pieces` gives them, or None: then every id counts
        as a word and none as a sentence's end.
      decoder_start_id: what the decoder of an encoder-decoder reads first; None: `pad_id`.
      pair_separators: eos between two texts that an encoder reads as a pair: 1 as BERT (Devlin et
        al. 2019, figure 2), 2 as RoBERTa's released models.
    """

    size: int
    pad_id: int
    bos_id: int
    eos_id: int
    unk_id: int
    mask_id: int | None
    sentinel_ids: tuple[int, ...]
    mode_ids: tuple[int, ...]
    pieces: Callable[[Iterable[int]], list[str]] | None = field(
        default=None, compare=False, repr=False
    )
    decoder_start_id: int | None = None
    pair_separators: int = 1

    @property
    def special_ids(self) -> frozenset[int]:
        """All of the above but `unk_id`: what no objective corrupts and no sample may contain."""
        mask = () if self.mask_id is None else (self.mask_id,)
        return frozenset(
            {self.pad_id, self.bos_id, self.eos_id, *mask, *self.sentinel_ids, *self.mode_ids}
        )

    @property
    def start_id(self) -> int:
        """What the decoder of an encoder-decoder reads first."""
        return self.pad_id if self.decoder_start_id is None else self.decoder_start_id

    def begins_word(self, ids: Int[np.ndarray, ' n']) -> Bool[np.ndarray, ' n']:
        """Which ids begin a word: see `word_starts`; those beyond the vocabulary do not."""
        return np.append(self._word_starts, False)[np.minimum(ids, self.size)]

    def ends_sentence(self, ids: Int[np.ndarray, ' n']) -> Bool[np.ndarray, ' n']:
        """Which ids end in a full stop, question or exclamation mark, or one and a closing mark.

        The same within a word (`3.14`) ends none: only where `begins_word` is true of the next.
        """
        return np.append(self._sentence_ends, False)[np.minimum(ids, self.size)]

    @cached_property
    def _word_starts(self) -> np.ndarray:
        if self.pieces is None:
            return np.ones(self.size, bool)
        return word_starts(self.pieces(range(self.size)))

    @cached_property
    def _sentence_ends(self) -> np.ndarray:
        if self.pieces is None:
            return np.zeros(self.size, bool)
        closed = (piece.rstrip(_SPACES).rstrip(_CLOSING) for piece in self.pieces(range(self.size)))
        return np.array([piece.endswith(_STOPS) for piece in closed], bool)


_SPACES = '\u2581 \t\n\r'
_CLOSING = '"\'\u2019\u201d)]\u300d'
_STOPS = ('.', '!', '?', '\u2026', '\u3002', '\uff01', '\uff1f')
_SPACE_BYTES = ('<0x09>', '<0x0A>', '<0x0D>', '<0x20>')


def word_starts(pieces: list[str]) -> Bool[np.ndarray, ' n']:
    """Which pieces begin a word: those with a space before them, as RoBERTa's code has it.

    A vocabulary that marks what continues a word instead (`##`, as BERT's) is read that way: then
    all others begin one. So do ideographs and kana, which no spaces set apart.
    """
    spaced = np.array([piece.startswith((*_SPACES, *_SPACE_BYTES)) for piece in pieces], bool)
    inner = np.array([piece.startswith('##') for piece in pieces], bool)
    if inner.sum() > spaced.sum():
        return ~inner
    return spaced | np.array([_is_ideograph(piece[:1]) for piece in pieces], bool)


def _is_ideograph(character: str) -> bool:
    return (
        '\u3000' <= character <= '\u9fff'
        or '\uf900' <= character <= '\ufaff'
        or '\U00020000' <= character <= '\U0003ffff'
    )


def placeholder(size: int) -> Vocabulary:
    """A vocabulary of that size with every special id, laid as our own tokenizers lay them.

    Serves where lengths and shapes alone are asked for, which depend on no id.
    """
    first = 5 + NUM_SENTINELS
    modes = tuple(range(first, first + len(MODES)))
    return Vocabulary(size, 0, 1, 2, 3, 4, tuple(range(5, first)), modes)
