"""Older vocabulary files, BERT's `vocab.txt` and GPT-2's two, as a `tokenizer.json`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm.data.json_tokenizer import BESIDE, declared, read_object, tokenizers_package
from lm.errors import UserError

_BERT_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_GPT2_TOKENS = ('<|endoftext|>', '<s>', '</s>', '<pad>', '<unk>', '<mask>')


def wordpiece(file: Path) -> dict[str, bytes]:
    """BERT's WordPiece of a `vocab.txt`, lower-cased unless tokenizer_config.json says not to.

    Raises:
      OSError: it cannot be read.
      UserError: it is not such a vocabulary, or the package `tokenizers` is missing.
    """
    package = tokenizers_package(f'data.tokenizer={file}')
    beside = _beside(file.parent)
    config = read_object(beside.get(BESIDE[0], b'{}'), str(file.with_name(BESIDE[0])))
    unknown = declared(beside, file.parent).get('<unk>', '[UNK]')
    try:
        lines = file.read_text(encoding='utf-8').removesuffix('\n').split('\n')
    except UnicodeDecodeError:
        lines = []
    vocabulary = {line.rstrip('\r'): i for i, line in enumerate(lines)}
    if unknown not in vocabulary:
        raise UserError(f'data.tokenizer={file}: not a WordPiece vocabulary: has no line {unknown}')
    codec = package.Tokenizer(package.models.WordPiece(vocabulary, unk_token=unknown))
    codec.normalizer = package.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get('tokenize_chinese_chars', True),
        strip_accents=config.get('strip_accents'),
        lowercase=config.get('do_lower_case', True),
    )
    codec.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    codec.decoder = package.decoders.WordPiece(prefix='##')
    return _finished(package, codec, file.parent, beside, _BERT_TOKENS)


def byte_level(folder: Path) -> dict[str, bytes]:
    """GPT-2's byte-level BPE of `vocab.json` and `merges.txt`.

    Raises:
      OSError: one of them cannot be read.
      UserError: they are no such files, or the package `tokenizers` is missing.
    """
    package = tokenizers_package(f'data.tokenizer={folder}')
    beside = _beside(folder)
    config = read_object(beside.get(BESIDE[0], b'{}'), str(folder / BESIDE[0]))
    files = [folder / 'vocab.json', folder / 'merges.txt']
    for file in files:
        file.read_bytes()  # the package would not say which one is missing
    try:
        model = package.models.BPE.from_file(*map(str, files))
    except Exception as error:  # the package raises nothing more special
        said = str(error).splitlines()[0]
        raise UserError(
            f'data.tokenizer={folder}: vocab.json and merges.txt are no byte-level BPE ({said})'
        ) from None
    codec = package.Tokenizer(model)
    codec.pre_tokenizer = package.pre_tokenizers.ByteLevel(
        add_prefix_space=config.get('add_prefix_space', False)
    )
    codec.decoder = package.decoders.ByteLevel()
    return _finished(package, codec, folder, beside, _GPT2_TOKENS)


def _beside(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in BESIDE if (folder / name).is_file()}


def _finished(
    package: Any, codec: Any, folder: Path, beside: dict[str, bytes], usual: Iterable[str]
) -> dict[str, bytes]:
    """The files, once the special tokens are marked and those of added_tokens.json are there."""
    said = declared(beside, folder).values()
    special = [token for token in (*usual, *said) if codec.token_to_id(token) is not None]
    more = folder / 'added_tokens.json'
    if more.is_file():
        tree = read_object(more.read_bytes(), str(more))
        special += sorted(tree, key=lambda token: int(tree[token]))
    codec.add_special_tokens(
        [package.AddedToken(token, normalized=False) for token in dict.fromkeys(special)]
    )
    return {'tokenizer.json': json.dumps(json.loads(codec.to_str())).encode(), **beside}
