"""Files of a tokenizer's folder with values of a wrong type: refused in a line, null is nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from tests.data.test_json_tokenizer import byte_level, saved
from tests.data.test_roles import BERT
from tests.data.test_sentencepiece_added import spiece, written

pytest.importorskip('tokenizers', reason='the extra hub is not installed')
__all__ = ['spiece']
DEEP = '[' * 100_000
CONFIG = 'tokenizer_config'


def folder_of(kind: str, folder: Path, model: bytes) -> Path:
    """A folder with a tokenizer of one of four kinds."""
    folder.mkdir()
    if kind == 'spiece':
        return written(folder, model, {})
    if kind == 'bert':
        (folder / 'vocab.txt').write_text('\n'.join(BERT))
    elif kind == 'gpt2':
        byte_level().model.save(str(folder))
    else:
        saved(byte_level(), folder)
    return folder


@pytest.mark.parametrize(
    ('kind', 'name', 'key', 'value'),
    [
        ('spiece', CONFIG, 'additional_special_tokens', 'x'),
        ('spiece', CONFIG, 'additional_special_tokens', [3]),
        ('spiece', 'special_tokens_map', 'additional_special_tokens', [{'id': 1}]),
        ('spiece', CONFIG, 'added_tokens_decoder', ['x']),
        ('spiece', CONFIG, 'added_tokens_decoder', {'x': {'content': 'y'}}),
        ('spiece', CONFIG, 'added_tokens_decoder', {'9' * 5000: {'content': 'y'}}),
        ('spiece', CONFIG, 'added_tokens_decoder', {'30': {'lstrip': True}}),
        ('spiece', CONFIG, 'extra_ids', '100'),
        ('spiece', CONFIG, 'extra_ids', 10**9),
        ('spiece', CONFIG, 'extra_ids', -1),
        ('spiece', 'tokenizer', 'added_tokens', [3]),
        ('spiece', 'tokenizer', 'added_tokens', {}),
        ('spiece', 'tokenizer', 'added_tokens', [{'id': None, 'content': 'x'}]),
        ('spiece', 'tokenizer', 'added_tokens', [{'id': 30}]),
        ('spiece', 'added_tokens', '<x>', '30'),
        ('spiece', 'added_tokens', '<x>', None),
        ('spiece', 'added_tokens', '\ud800', 30),
        *((kind, CONFIG, 'eos_token', v) for kind in ('spiece', 'json') for v in (['a'], 3, {})),
        ('json', 'special_tokens_map', 'pad_token', {'content': None}),
        ('bert', CONFIG, 'cls_token', [1]),
        ('bert', CONFIG, 'do_lower_case', 'false'),
        ('bert', CONFIG, 'tokenize_chinese_chars', 0),
        ('bert', CONFIG, 'strip_accents', 'no'),
        ('gpt2', CONFIG, 'add_prefix_space', 'no'),
        ('gpt2', 'added_tokens', '<x>', 'a'),
    ],
)  # fmt: skip
def test_a_wrong_type_names_file_and_key(
    tmp_path: Path, spiece: bytes, kind: str, name: str, key: str, value: Any
):
    folder = folder_of(kind, tmp_path / kind, spiece)
    (folder / f'{name}.json').write_text(json.dumps({key: value}))
    with pytest.raises(UserError) as caught:
        load_tokenizer(folder / 'spiece.model' if kind == 'spiece' else folder)
    message = str(caught.value)
    assert message.startswith(f'data.tokenizer={folder}')
    assert f'{name}.json: ' in message
    assert f'{name}.json: {key.encode(errors="backslashreplace").decode()}' in message
    assert '\n' not in message
    assert len(message) < 400
    message.encode()


@pytest.mark.parametrize(
    ('kind', 'name', 'keys'),
    [
        ('spiece', CONFIG, ('additional_special_tokens', 'added_tokens_decoder', 'extra_ids')),
        ('spiece', CONFIG, ('eos_token', 'tokenizer_class')),
        ('spiece', 'config', ('eos_token_id', 'model_type')),
        ('spiece', 'special_tokens_map', ('additional_special_tokens', 'pad_token')),
        ('spiece', 'tokenizer', ('added_tokens',)),
        ('bert', CONFIG, ('do_lower_case', 'tokenize_chinese_chars', 'strip_accents', 'sep_token')),
        ('gpt2', CONFIG, ('add_prefix_space', 'unk_token')),
    ],
)
def test_null_is_nothing(
    tmp_path: Path, spiece: bytes, kind: str, name: str, keys: tuple[str, ...]
):
    folder = folder_of(kind, tmp_path / kind, spiece)
    file = folder / 'spiece.model' if kind == 'spiece' else folder
    plain = load_tokenizer(file)
    (folder / f'{name}.json').write_text(json.dumps(dict.fromkeys(keys)))
    tokenizer = load_tokenizer(file)
    assert tokenizer.vocabulary == plain.vocabulary
    assert tokenizer.encode('The aa').tolist() == plain.encode('The aa').tolist()


@pytest.mark.parametrize(
    ('kind', 'names'),
    [
        ('spiece', (CONFIG, 'special_tokens_map', 'added_tokens', 'tokenizer', 'config')),
        ('json', (CONFIG, 'special_tokens_map', 'config', 'tokenizer')),
        ('bert', (CONFIG, 'special_tokens_map', 'added_tokens', 'config')),
        ('gpt2', (CONFIG, 'special_tokens_map', 'added_tokens', 'config', 'vocab')),
    ],
)
def test_deep_nesting_is_told_in_a_line(
    tmp_path: Path, spiece: bytes, kind: str, names: tuple[str, ...]
):
    for name in names:
        folder = folder_of(kind, tmp_path / name, spiece)
        (folder / f'{name}.json').write_text(DEEP)
        with pytest.raises(UserError, match=r'^data.tokenizer=[^\n]*$'):
            load_tokenizer(folder / 'spiece.model' if kind == 'spiece' else folder)
