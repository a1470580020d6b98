"""The ids with a meaning of their own: what objectives and generation know of a tokenizer."""

from dataclasses import dataclass

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
    """

    size: int
    pad_id: int
    bos_id: int
    eos_id: int
    unk_id: int
    mask_id: int | None
    sentinel_ids: tuple[int, ...]
    mode_ids: tuple[int, ...]

    @property
    def special_ids(self) -> frozenset[int]:
        """All of the above but `unk_id`: what no objective corrupts and no sample may contain."""
        mask = () if self.mask_id is None else (self.mask_id,)
        return frozenset(
            {self.pad_id, self.bos_id, self.eos_id, *mask, *self.sentinel_ids, *self.mode_ids}
        )


def placeholder(size: int) -> Vocabulary:
    """A vocabulary of that size with every special id, laid as our own tokenizers lay them.

    Serves where lengths and shapes alone are asked for, which depend on no id.
    """
    first = 5 + NUM_SENTINELS
    modes = tuple(range(first, first + len(MODES)))
    return Vocabulary(size, 0, 1, 2, 3, 4, tuple(range(5, first)), modes)
