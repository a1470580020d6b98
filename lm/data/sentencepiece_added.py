"""What a Hugging Face folder adds to its SentencePiece model, written into the model.

Added tokens become control pieces, which no text matches, and the parts that tokens play become
the model's own, so that it needs no other file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm.data.roles import BESIDE, CONFIG, files_of, named, numbered
from lm.data.settings import Settings
from lm.data.special_ids import BOS, EOS, PAD, SENTINELS, TRAINED_WITH
from lm.vocabulary import NUM_SENTINELS

_SENTINEL = re.compile(r'<extra_id_(\d+)>')
_MOST_SENTINELS = 1 << 16
_MORE = 'additional_special_tokens'
_NOTHING = Settings(b'{}', '')
_LISTS = ('added_tokens.json', 'tokenizer.json')
_PIECES = {PAD: 'pad', BOS: 'bos', EOS: 'eos'}
"""How the model calls the parts that it knows."""


def with_added_tokens(model: bytes, folder: Path, words: str = TRAINED_WITH) -> bytes:
    """`model`, what the files in `folder` add right after its ids, and the parts they name.

    Args:
      model: a serialised SentencePiece model.
      folder: whose files are read.
      words: the field or flag that gives its path.

    Raises:
      OSError: one of the files cannot be read.
      RuntimeError: `model` is no SentencePiece model.
      UserError: one of the files is no JSON object, or holds a value of a wrong type.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    message: Any = sentencepiece_model_pb2
    try:
        proto = message.ModelProto.FromString(model)
    except DecodeError as error:
        raise RuntimeError(str(error)) from None
    files, before = files_of(folder), f'{words}={folder}/'
    lists = {n: (folder / n).read_bytes() for n in _LISTS if (folder / n).is_file()}
    trees = {name: Settings(data, before + name) for name, data in {**files, **lists}.items()}
    changed = _add(proto, trees)
    changed = _name(proto, named(files, before), numbered(files, before)) or changed
    serialised: bytes = proto.SerializeToString()
    return serialised if changed else model


def _add(proto: Any, trees: Mapping[str, Settings]) -> bool:
    """Appends the added tokens that the model lacks, as far as they come right after its ids."""
    own = {piece.piece for piece in proto.pieces}
    number = first = len(proto.pieces)
    added = _added(trees, own, first)
    while number in added:
        proto.pieces.add(piece=added[number], score=0.0, type=proto.SentencePiece.CONTROL)
        number += 1
    return number > first


def _name(proto: Any, said: Mapping[str, str], told: Mapping[str, int]) -> bool:
    """Has the model call pad, bos and eos what the files do: a name, or else config.json's id.

    Such an id counts only where it is no text's: its writer may have left a default there.
    """
    kinds = proto.SentencePiece
    changed = False
    for part, name in _PIECES.items():
        i = _place(proto, said.get(part), told.get(part), part == PAD)
        if i is None:
            continue
        piece = proto.pieces[i]
        kind = piece.type if piece.type == kinds.UNKNOWN else kinds.CONTROL
        if getattr(proto.trainer_spec, f'{name}_piece') != piece.piece or piece.type != kind:
            setattr(proto.trainer_spec, f'{name}_piece', piece.piece)
            setattr(proto.trainer_spec, f'{name}_id', i)
            piece.type = kind
            changed = True
    return changed


def _place(proto: Any, token: str | None, told: int | None, unknown: bool) -> int | None:
    """The id of a token that can be a symbol; else the one that was told, if that is one.

    Args:
      proto: the model.
      token: its spelling.
      told: the id that counts where there is no such token.
      unknown: whether the unknown one will do, by name.
    """
    kinds = proto.SentencePiece
    for i, piece in enumerate(proto.pieces if token else ()):
        text = piece.type == kinds.BYTE or (piece.type == kinds.NORMAL and len(piece.piece) == 1)
        if piece.piece == token and not text and (unknown or piece.type != kinds.UNKNOWN):
            return i
    symbols = (kinds.CONTROL, kinds.USER_DEFINED)
    if told is None or not 0 <= told < len(proto.pieces):
        return None
    return told if proto.pieces[told].type in symbols else None


def _added(trees: Mapping[str, Settings], own: set[str], first: int) -> dict[int, str]:
    """The added tokens by id; T5's sentinels, where no file gives their ids, count downwards."""
    ids: dict[str, int] = {}
    if 'added_tokens.json' in trees:
        ids |= trees['added_tokens.json'].ids_of_tokens()
    if 'tokenizer.json' in trees:
        ids |= trees['tokenizer.json'].listed_tokens('added_tokens')
    if BESIDE[0] in trees:
        ids |= trees[BESIDE[0]].numbered_tokens('added_tokens_decoder')
    if not own.intersection(SENTINELS) and not any(map(_SENTINEL.fullmatch, ids)):
        count = _sentinels(trees)
        ids |= {f'<extra_id_{i}>': first + count - 1 - i for i in range(count)}
    return {i: token for token, i in ids.items() if token and token not in own}


def _sentinels(trees: Mapping[str, Settings]) -> int:
    """How many sentinels there are, of a folder that does not give their ids."""
    tokens, model = (trees.get(name, _NOTHING) for name in (BESIDE[0], CONFIG))
    count = tokens.count('extra_ids', _MOST_SENTINELS)
    if count is not None:
        return count
    names = [t for name in BESIDE for t in trees.get(name, _NOTHING).tokens(_MORE)]
    count = len(set(filter(_SENTINEL.fullmatch, names)))
    if count or 'tokenizer.json' in trees:  # which would list them
        return count
    is_t5 = model.tree.get('model_type') == 't5'
    is_t5 = is_t5 or str(tokens.tree.get('tokenizer_class', '')).startswith('T5Tokenizer')
    return NUM_SENTINELS if is_t5 else 0
