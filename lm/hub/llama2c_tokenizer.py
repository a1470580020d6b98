"""llama2.c's `tokenizer.bin` as a SentencePiece model (Karpathy 2023, run.c and tokenizer.py)."""

import struct
from typing import Any

from lm.errors import UserError

_HEADER = struct.Struct('<i')
_ENTRY = struct.Struct('<fi')
_NAMES = ('<unk>', '<s>', '</s>')
_FIRST_BYTE = len(_NAMES)
_FIRST_PIECE = _FIRST_BYTE + 256


def sentencepiece_model(data: bytes, vocab_size: int, words: str) -> bytes:
    """A serialised SentencePiece BPE model that gives the ids of run.c.

    With a dummy prefix, byte fallback and no change to the text, as LLaMA's. One character has no
    counterpart: a U+2581 in the text is a space to SentencePiece and three bytes to run.c.

    Args:
      data: the file: int32 longest piece in bytes; for every id float32 score, int32 length and
        the piece's bytes. Ids 0 to 2 are unk, bos and eos, the next 256 single bytes, the rest
        BPE pieces with their spaces as they are.
      vocab_size: of the model that it belongs to; the file does not say.
      words: the flag or field that names the file, and its value.

    Raises:
      UserError: the file is cut short, holds another number of ids, or is none.
    """
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    message: Any = sentencepiece_model_pb2
    kind = message.ModelProto.SentencePiece
    proto = message.ModelProto()
    for i, (score, piece) in enumerate(_entries(data, vocab_size, words)):
        if i < _FIRST_BYTE:
            special = kind.CONTROL if i else kind.UNKNOWN
            proto.pieces.add(piece=_NAMES[i], score=0.0, type=special)
        elif i < _FIRST_PIECE:
            if piece != f'<0x{i - _FIRST_BYTE:02X}>':
                raise UserError(
                    f'{words}: is not a tokenizer.bin of llama2.c: id {i} is {piece!r}, no byte'
                )
            proto.pieces.add(piece=piece, score=0.0, type=kind.BYTE)
        else:
            proto.pieces.add(piece=piece.replace(' ', '\u2581'), score=score, type=kind.NORMAL)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = message.TrainerSpec.BPE
    trainer.vocab_size = vocab_size
    trainer.byte_fallback = True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normalizer.name = 'identity'
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = False
    normalizer.escape_whitespaces = True
    model: bytes = proto.SerializeToString()
    try:
        SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise UserError(f'{words}: is not a tokenizer.bin of llama2.c: {error}') from None
    return model


def _entries(data: bytes, vocab_size: int, words: str) -> list[tuple[float, str]]:
    """Score and piece of every id."""
    entries = []
    place = _HEADER.size
    for i in range(vocab_size):
        if len(data) < place + _ENTRY.size:
            raise UserError(_short(words, i, vocab_size))
        score, length = _ENTRY.unpack_from(data, place)
        place += _ENTRY.size
        if length < 0:
            raise UserError(f'{words}: is not a tokenizer.bin of llama2.c: id {i} has no length')
        if len(data) < place + length:
            raise UserError(_short(words, i, vocab_size))
        try:
            entries.append((score, data[place : place + length].decode()))
        except UnicodeDecodeError:
            raise UserError(
                f'{words}: is not a tokenizer.bin of llama2.c: id {i} is no UTF-8'
            ) from None
        place += length
    if place != len(data):
        raise UserError(
            f'{words}: holds more than the {vocab_size} ids of the model; give the tokenizer that '
            'belongs to it'
        )
    return entries


def _short(words: str, ids: int, vocab_size: int) -> str:
    return (
        f'{words}: is cut short, is no tokenizer.bin of llama2.c, or belongs to another model: '
        f'{ids} ids of {vocab_size} can be read'
    )
