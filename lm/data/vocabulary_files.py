"""Older vocabulary files, BERT's `vocab.txt` and GPT-2's two, as a `tokenizer.json`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lm.data.json_tokenizer import tokenizers_package
from lm.data.roles import BESIDE, files_of, named
from lm.data.settings import Settings
from lm.data.special_ids import BOS, EOS, TRAINED_WITH, UNK
from lm.errors import UserError

_ADDED = 'added_tokens.json'
_BERT_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_GPT2_TOKENS = ('<|endoftext|>', '<s>', '</s>', '<pad>', '<unk>', '<mask>')


def wordpiece(file: Path, words: str = TRAINED_WITH) -> dict[str, bytes]:
    """BERT's WordPiece of a `vocab.txt`, lower-cased unless tokenizer_config.json says not to.

    Args:
      file: the vocabulary; those beside it are read too.
      words: the field or flag that gives its path.

    Raises:
      OSError: it cannot be read.
      UserError: it is not such a vocabulary, or the package `tokenizers` is missing.
    """
    package = tokenizers_package(f'{words}={file}')
    beside, before = files_of(file.parent), f'{words}={file.parent}/'
    config = Settings(beside.get(BESIDE[0], b'{}'), before + BESIDE[0])
    said = named(beside, before)
    unknown, first, last = said.get(UNK, '[UNK]'), said.get(BOS, '[CLS]'), said.get(EOS, '[SEP]')
    try:
        lines = file.read_text(encoding='utf-8').removesuffix('\n').split('\n')
    except UnicodeDecodeError:
        lines = []
    vocabulary = {line.rstrip('\r'): i for i, line in enumerate(lines)}
    if unknown not in vocabulary:
        raise UserError(f'{words}={file}: not a WordPiece vocabulary: has no line {unknown}')
    codec = package.Tokenizer(package.models.WordPiece(vocabulary, unk_token=unknown))
    codec.normalizer = package.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.flag('tokenize_chinese_chars') is not False,
        strip_accents=config.flag('strip_accents'),
        lowercase=config.flag('do_lower_case') is not False,
    )
    codec.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    codec.decoder = package.decoders.WordPiece(prefix='##')
    if first in vocabulary and last in vocabulary:
        codec.post_processor = package.processors.BertProcessing(
            (last, vocabulary[last]), (first, vocabulary[first])
        )
    return _finished(package, codec, before, beside, file.with_name(_ADDED), _BERT_TOKENS)


def byte_level(folder: Path, words: str = TRAINED_WITH) -> dict[str, bytes]:
    """GPT-2's byte-level BPE of `vocab.json` and `merges.txt`.

    Args:
      folder: where they are; those beside them are read too.
      words: the field or flag that gives its path.

    Raises:
      OSError: one of them cannot be read.
      UserError: they are no such files, or the package `tokenizers` is missing.
    """
    package = tokenizers_package(f'{words}={folder}')
    beside, before = files_of(folder), f'{words}={folder}/'
    config = Settings(beside.get(BESIDE[0], b'{}'), before + BESIDE[0])
    files = [folder / 'vocab.json', folder / 'merges.txt']
    for file in files:
        file.read_bytes()  # the package would not say which one is missing
    try:
        model = package.models.BPE.from_file(*map(str, files))
    except Exception as error:  # the package raises nothing more special
        said = str(error).splitlines()[0]
        raise UserError(
            f'{words}={folder}: vocab.json and merges.txt are no byte-level BPE ({said})'
        ) from None
    codec = package.Tokenizer(model)
    codec.pre_tokenizer = package.pre_tokenizers.ByteLevel(
        add_prefix_space=bool(config.flag('add_prefix_space'))
    )
    codec.decoder = package.decoders.ByteLevel()
    if (config.token('tokenizer_class') or '').startswith('Roberta'):
        spelled = named(beside, before)
        last, first = spelled.get(EOS, '</s>'), spelled.get(BOS, '<s>')
        ends = [(end, codec.token_to_id(end)) for end in (last, first)]
        if all(number is not None for _, number in ends):
            codec.post_processor = package.processors.RobertaProcessing(*ends)
    return _finished(package, codec, before, beside, folder / _ADDED, _GPT2_TOKENS)


def _finished(
    package: Any,
    codec: Any,
    before: str,
    beside: dict[str, bytes],
    more: Path,
    usual: Iterable[str],
) -> dict[str, bytes]:
    """The files, once the special tokens are marked and those of added_tokens.json are there."""
    said = named(beside, before).values()
    special = [token for token in (*usual, *said) if codec.token_to_id(token) is not None]
    if more.is_file():
        ids = Settings(more.read_bytes(), before + _ADDED).ids_of_tokens()
        special += sorted(ids, key=lambda token: ids[token])
    codec.add_special_tokens(
        [package.AddedToken(token, normalized=False) for token in dict.fromkeys(special)]
    )
    return {'tokenizer.json': json.dumps(json.loads(codec.to_str())).encode(), **beside}
