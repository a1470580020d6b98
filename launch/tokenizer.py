"""Trains a SentencePiece tokenizer, or inspects one of any kind.

`lm tokenizer --source=FILE --output=mine.model` trains on the training part of the source, as
`lm train` would, for use as --config.data.tokenizer=mine.model. `lm tokenizer --model=mine.model
--text=FILE` says what a model holds and how it does on a text; --model also reads a tokenizer.json,
vocab.txt, vocab.json with merges.txt, or a folder with one of them.
"""

from typing import TYPE_CHECKING, Literal

from lm.config import DataConfig
from lm.errors import UserError
from lm.fields import field_types, flatten
from lm.flags import Flags

from ._files import read_text, require_writable

if TYPE_CHECKING:
    from lm.data.tokenizer import Tokenizer

OF_DATA = ('source', 'stream_documents', 'documents', 'text_field', 'validation_fraction')
"""Fields of the section `data` that are flags here, under their own names."""

FLAG_OF_FIELD = {
    'model.vocab_size': '--vocab_size',
    'data.tokenizer': '--model',
    **{f'data.{field}': f'--{field}' for field in OF_DATA},
}


def define_flags(flags: Flags) -> None:
    """What to train on, or what to inspect."""
    types, defaults = field_types(DataConfig()), flatten(DataConfig())
    for field in OF_DATA:
        flags.define(field, types[field][0], defaults[field], types[field][1])
    flags.define('kind', Literal['unigram', 'bpe', 'char', 'word'], 'unigram', 'what to train')
    flags.define('vocab_size', int | None, None, 'ids in all; none: as many as the text supports')
    flags.define('output', str, '', 'the .model file that a trained tokenizer is written to')
    flags.define('model', str, '', 'inspect this one, a .model, a tokenizer.json or a folder')
    flags.define('text', str, '', 'a UTF-8 file: how the tokenizer does on it')


def main(flags: Flags) -> None:
    """Trains or loads, then prints what there is to know."""
    text = read_text('text', flags['text']) if flags['text'] else ''
    try:
        tokenizer = _loaded(flags) if flags['model'] else _trained(flags)
    except UserError as error:
        message = str(error)
        for field, flag in FLAG_OF_FIELD.items():
            message = message.replace(field, flag)
        raise UserError(message) from error
    print('\n'.join([*_contents(tokenizer), *(_on_text(tokenizer, text) if text else [])]))


def _loaded(flags: Flags) -> 'Tokenizer':
    from lm.data.tokenizer import load_tokenizer

    training = [f for f in (*OF_DATA, 'kind', 'vocab_size', 'output') if flags.given(f)]
    if training:
        raise UserError(f'--{training[0]}: is for training one; leave it or --model out')
    return load_tokenizer(flags['model'])


def _trained(flags: Flags) -> 'Tokenizer':
    require_writable('output', flags.required('output'))
    from lm.data.sources import Reading, open_source
    from lm.data.split import split_source
    from lm.data.tokenizer import train_tokenizer

    data = DataConfig(**{field: flags[field] for field in OF_DATA})
    split = split_source(open_source(data), data.validation_fraction)
    texts = (document.text for document in split.documents('train', Reading()))
    tokenizer = train_tokenizer(flags['kind'], texts, flags['vocab_size'])
    tokenizer.save(flags['output'])
    return tokenizer


def _contents(tokenizer: 'Tokenizer') -> list[str]:
    known = tokenizer.vocabulary
    sentinels, modes = known.sentinel_ids, known.mode_ids
    return [
        f'ids              {known.size:,}',
        f'pad, bos, eos    {known.pad_id}, {known.bos_id}, {known.eos_id}',
        f'unk, mask        {known.unk_id}, {"none" if known.mask_id is None else known.mask_id}',
        f'sentinels        {len(sentinels)}{_range(sentinels)}',
        f'mode tokens      {", ".join(map(str, modes)) or "none"}',
        f'any text exact   {"yes" if tokenizer.lossless else "no: decoding loses something"}',
        f'sha256           {tokenizer.sha256}',
    ]


def _range(ids: tuple[int, ...]) -> str:
    return f', ids {min(ids)} to {max(ids)}' if ids else ''


def _on_text(tokenizer: 'Tokenizer', text: str) -> list[str]:
    ids = tokenizer.encode(text)
    size, unknown = len(text.encode()), int((ids == tokenizer.vocabulary.unk_id).sum())
    begins = ' '.join(repr(piece)[1:-1] for piece in tokenizer.pieces(ids[:12]))
    return [
        '',
        f'text             {size:,} bytes, {len(text):,} characters',
        f'tokens           {len(ids):,}, of them unknown {unknown:,}',
        f'bytes a token    {size / max(len(ids), 1):.3f}',
        f'round trip       {_round_trip(text, tokenizer.decode(ids))}',
        f'begins           {begins}',
    ]


def _round_trip(text: str, decoded: str) -> str:
    if decoded == text:
        return 'exact'
    pairs = zip(text, decoded, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(decoded)))
    there, here = text[same : same + 12], decoded[same : same + 12]
    return f'differs from character {same} on: {there!r} became {here!r}'
