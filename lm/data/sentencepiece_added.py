"""Tokens that a Hugging Face folder adds to its SentencePiece model, written into the model.

They become control pieces, which no text matches, so that the model needs no other file.
"""

import re
from pathlib import Path
from typing import Any

from lm.data.json_tokenizer import read_object, spelling
from lm.vocabulary import NUM_SENTINELS

_SENTINEL = re.compile(r'<extra_id_(\d+)>')


def with_added_tokens(model: bytes, folder: Path) -> bytes:
    """`model` and what the files in `folder` add right after its ids.

    Raises:
      OSError: one of the files cannot be read.
      RuntimeError: `model` is no SentencePiece model.
      UserError: one of the files is no JSON object.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    message: Any = sentencepiece_model_pb2
    try:
        proto = message.ModelProto.FromString(model)
    except DecodeError as error:
        raise RuntimeError(str(error)) from None
    added = _added(folder, len(proto.pieces))
    number = len(proto.pieces)
    if number not in added:
        return model
    while number in added:
        proto.pieces.add(
            piece=added[number], score=0.0, type=message.ModelProto.SentencePiece.CONTROL
        )
        number += 1
    serialised: bytes = proto.SerializeToString()
    return serialised


def _added(folder: Path, own: int) -> dict[int, str]:
    """The added tokens by id; T5's sentinels, where no file gives their ids, count downwards."""
    trees = {
        name: read_object((folder / f'{name}.json').read_bytes(), str(folder / f'{name}.json'))
        for name in (
            'added_tokens',
            'special_tokens_map',
            'tokenizer',
            'tokenizer_config',
            'config',
        )
        if (folder / f'{name}.json').is_file()
    }
    config = trees.get('tokenizer_config', {})
    added = {int(i): token for token, i in trees.get('added_tokens', {}).items()}
    added |= {
        int(token['id']): token['content']
        for token in trees.get('tokenizer', {}).get('added_tokens', [])
    }
    added |= {int(i): spelling(t) for i, t in config.get('added_tokens_decoder', {}).items()}
    sentinels = _sentinels(trees)
    if not any(_SENTINEL.fullmatch(token) for token in added.values()):
        added |= {own + sentinels - 1 - i: f'<extra_id_{i}>' for i in range(sentinels)}
    return added


def _sentinels(trees: dict[str, dict[str, Any]]) -> int:
    """How many sentinels there are, of a folder that does not give their ids."""
    config = trees.get('tokenizer_config', {})
    if 'extra_ids' in config:
        return int(config['extra_ids'])
    named = [
        *config.get('additional_special_tokens', []),
        *trees.get('special_tokens_map', {}).get('additional_special_tokens', []),
    ]
    count = len({s for s in map(spelling, named) if _SENTINEL.fullmatch(s)})
    if count or 'tokenizer' in trees:  # which would list them
        return count
    is_t5 = trees.get('config', {}).get('model_type') == 't5'
    is_t5 = is_t5 or str(config.get('tokenizer_class', '')).startswith('T5Tokenizer')
    return NUM_SENTINELS if is_t5 else 0
