"""Which ids are special: those a tokenizer has, and those that come after its own."""

import math
from collections.abc import Mapping
from pathlib import Path

from lm.data.sentencepiece_training import SPECIAL_PIECES
from lm.errors import UserError
from lm.vocabulary import MODES, NUM_SENTINELS, Vocabulary

PAD, BOS, EOS, UNK, MASK = SPECIAL_PIECES[:5]
"""Our spellings of the usual five, whatever a tokenizer calls its own."""
TRAINED_WITH = 'data.tokenizer'
"""The field that gives the path of a tokenizer for training; other paths come by other names."""
SENTINELS = tuple(f'<extra_id_{i}>' for i in range(NUM_SENTINELS))


def complete(
    own: int,
    known: Mapping[str, int],
    rows: int | None,
    path: str | Path,
    words: str = TRAINED_WITH,
) -> tuple[Vocabulary, dict[int, str]]:
    """The vocabulary, and the pieces appended for what a tokenizer lacks, by id.

    Pad, bos, eos, mask, sentinels and modes are appended in this order, each where there is room;
    of the last two all that lack or none. Without room pad and bos are eos (padding is masked
    everywhere) and there is no mask.

    Args:
      own: ids of the tokenizer itself: its special ids are below.
      known: those special ids by our spelling of them.
      rows: ids that the model has; None: as many as it takes.
      path: of the tokenizer, for the error.
      words: the field or flag that gives the path.

    Raises:
      UserError: fewer rows than the tokenizer's own ids, or nothing that can end a text.
    """
    if rows is not None and rows < own:
        raise UserError(
            f'model.vocab_size={rows}: the tokenizer {path} has {own} ids; give at least {own}, '
            'or leave it unset'
            if words == TRAINED_WITH
            else f'{words}={path}: the tokenizer has {own} ids and the model only {rows}; give the '
            'one that belongs to it'
        )
    room = math.inf if rows is None else rows - own
    ids = dict(known)
    appended: dict[int, str] = {}
    for group in ((PAD,), (BOS,), (EOS,), (MASK,), SENTINELS, MODES):
        lacking = [piece for piece in group if piece not in ids]
        if len(appended) + len(lacking) <= room:
            for piece in lacking:
                ids[piece] = own + len(appended)
                appended[ids[piece]] = piece
    eos = ids.get(EOS, ids.get(BOS))
    if eos is None:
        raise UserError(
            f'model.vocab_size={rows}: the tokenizer {path} has no eos and leaves no room for '
            f'one; give at least {own + 3}, or leave it unset'
            if words == TRAINED_WITH
            else f'{words}={path}: the tokenizer has no eos and the model no room for one, with '
            f'{rows} ids; name one of its tokens as eos_token in tokenizer_config.json'
        )
    modes = tuple(ids[mode] for mode in MODES if mode in ids)
    vocabulary = Vocabulary(
        size=own + len(appended),
        pad_id=ids.get(PAD, eos),
        bos_id=ids.get(BOS, eos),
        eos_id=eos,
        unk_id=ids.get(UNK, eos),
        mask_id=ids.get(MASK),
        sentinel_ids=_leading(ids),
        mode_ids=modes if len(modes) == len(MODES) else (),
    )
    return vocabulary, appended


def _leading(ids: Mapping[str, int]) -> tuple[int, ...]:
    """The sentinels from the first on: span corruption uses them in order."""
    found = []
    for sentinel in SENTINELS:
        if sentinel not in ids:
            break
        found.append(ids[sentinel])
    return tuple(found)
