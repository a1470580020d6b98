"""Which special id plays which part: what a folder's files name, config.json's ids, spellings."""

import json
from pathlib import Path
from typing import Any

import pytest

from lm.data.tokenizer import Tokenizer, load_tokenizer
from lm.errors import UserError
from tests.data.test_json_tokenizer import OWN, byte_level, saved
from tests.data.test_sentencepiece_added import written

tokenizers = pytest.importorskip('tokenizers', reason='the extra hub is not installed')

BERT = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'aa', 'ba', '##b', '[END]']


@pytest.fixture(scope='module')
def spiece() -> bytes:
    """A model with pieces of every type: unk 0, bos 1, eos 2, no pad."""
    from sentencepiece import sentencepiece_model_pb2

    message: Any = sentencepiece_model_pb2
    kinds = message.ModelProto.SentencePiece
    proto = message.ModelProto()
    for piece, kind in [
        ('<unk>', kinds.UNKNOWN), ('<s>', kinds.CONTROL), ('</s>', kinds.CONTROL),
        ('<|im_start|>', kinds.CONTROL), ('<|im_end|>', kinds.USER_DEFINED),
        ('[MASK]', kinds.CONTROL), ('a', kinds.NORMAL), ('b', kinds.NORMAL),
    ]:  # fmt: skip
        proto.pieces.add(piece=piece, score=0.0, type=kind)
    proto.trainer_spec.model_type = message.TrainerSpec.UNIGRAM
    model: bytes = proto.SerializeToString()
    return model


def parts(tokenizer: Tokenizer) -> tuple[int, int, int, int]:
    v = tokenizer.vocabulary
    return v.pad_id, v.bos_id, v.eos_id, v.unk_id


def same_in_a_workdir(tokenizer: Tokenizer, folder: Path, rows: int | None = None) -> None:
    """Its files beside a config.json of another kind, as a run has them, say the same."""
    folder.mkdir()
    (folder / 'config.json').write_text('{"model": {}, "eos_token_id": 7}')
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)
    again = load_tokenizer(folder, rows)
    assert again.vocabulary == tokenizer.vocabulary
    assert again.sha256 == tokenizer.sha256


@pytest.mark.parametrize('eos', [290, [290, 0]])
def test_the_ids_of_config_json_where_no_file_names_a_token(tmp_path: Path, eos: Any):
    codec = tokenizers.Tokenizer.from_str(byte_level().to_str())
    folder = tmp_path / 'gpt2'
    folder.mkdir()
    codec.model.save(str(folder))
    vocabulary = json.loads((folder / 'vocab.json').read_text())
    del vocabulary['<|endoftext|>']
    (folder / 'vocab.json').write_text(json.dumps({**vocabulary, '<|end|>': 290}))
    (folder / 'config.json').write_text(json.dumps({'model_type': 'gpt2', 'eos_token_id': eos}))
    tokenizer = load_tokenizer(folder, 291)
    assert parts(tokenizer) == (290, 290, 290, 290)
    assert tokenizer.decode(tokenizer.encode('a<|end|>b')) == 'a<|end|>b'
    assert set(tokenizer.files) == {'tokenizer.json', 'tokenizer_config.json'}
    same_in_a_workdir(tokenizer, tmp_path / 'run', 291)


def test_config_json_fills_what_tokenizer_config_leaves_open(tmp_path: Path):
    codec = byte_level()
    codec.add_special_tokens(['<|im_start|>', '<|im_end|>'])
    folder = saved(codec, tmp_path / 'qwen', bos_token=None, eos_token='<|im_end|>', x=1)
    config = {
        'bos_token_id': 0,
        'eos_token_id': 0,
        'pad_token_id': OWN + 2,
        'mask_token_id': 1 << 99,
    }
    (folder / 'config.json').write_text(json.dumps(config))
    tokenizer = load_tokenizer(folder)
    # The pad id is beyond the tokenizer's own: one is appended there.
    assert parts(tokenizer) == (OWN + 2, 0, OWN + 1, OWN + 1)
    kept = json.loads(tokenizer.files['tokenizer_config.json'])
    assert (kept['bos_token'], kept['eos_token'], kept['x']) == ('<|endoftext|>', '<|im_end|>', 1)
    same_in_a_workdir(tokenizer, tmp_path / 'run')


def test_an_id_of_text_is_no_special_one_whatever_config_json_says(tmp_path: Path):
    folder = saved(byte_level(), tmp_path / 'gpt2')
    plain = load_tokenizer(folder)
    codec = byte_level()
    defaults = {'pad_token_id': codec.token_to_id('!'), 'bos_token_id': codec.token_to_id('the')}
    (folder / 'config.json').write_text(json.dumps(defaults))
    assert load_tokenizer(folder).vocabulary == plain.vocabulary
    # So the files are those of a folder without it.
    assert load_tokenizer(folder).files == plain.files


def test_the_config_of_a_run_gives_no_ids(tmp_path: Path):
    folder = saved(byte_level(), tmp_path / 'run')
    (folder / 'config.json').write_text('{"model": {}, "pad_token_id": 0}')
    assert load_tokenizer(folder).vocabulary.pad_id == OWN


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({'tokenizer_config': {'eos_token': '<|im_end|>'}}, (8, 1, 4, 0)),
        ({'tokenizer_config': {'bos_token': {'content': '<|im_start|>'}}}, (8, 3, 2, 0)),
        ({'tokenizer_config': {'pad_token': '</s>', 'eos_token': None}}, (2, 1, 2, 0)),
        ({'tokenizer_config': {'pad_token': '<unk>'}}, (0, 1, 2, 0)),
        # A letter is text, whatever the file says; neither is unknown text an end.
        ({'tokenizer_config': {'pad_token': 'a', 'eos_token': '<unk>'}}, (8, 1, 2, 0)),
        ({'special_tokens_map': {'pad_token': '<|im_start|>'}}, (3, 1, 2, 0)),
        ({'config': {'eos_token_id': [4, 2], 'pad_token_id': -1}}, (8, 1, 4, 0)),
        ({'config': {'eos_token_id': 4}, 'tokenizer_config': {'eos_token': '</s>'}}, (8, 1, 2, 0)),
        # Text, unknown text, and beyond the model.
        ({'config': {'bos_token_id': 6, 'pad_token_id': 0, 'eos_token_id': 99}}, (8, 1, 2, 0)),
        ({'config': {'model': {}, 'eos_token_id': 4}}, (8, 1, 2, 0)),
        ({'added_tokens': {'<pad>': 8, '<|end|>': 9},
          'tokenizer_config': {'eos_token': '<|end|>'}}, (8, 1, 9, 0)),
    ],
)  # fmt: skip
def test_parts_of_a_sentencepiece_model(
    tmp_path: Path, spiece: bytes, files: dict[str, Any], expected: tuple[int, ...]
):
    folder = tmp_path / 'theirs'
    folder.mkdir()
    tokenizer = load_tokenizer(written(folder, spiece, files))
    assert parts(tokenizer) == expected
    assert tokenizer.vocabulary.mask_id == 5
    assert tokenizer.vocabulary.special_ids.isdisjoint({*tokenizer.encode('a<|im_end|>b')} - {0})
    same_in_a_workdir(tokenizer, tmp_path / 'run')


def test_what_files_say_of_a_vocab_txt(tmp_path: Path):
    (tmp_path / 'vocab.txt').write_text('\n'.join(BERT))
    plain = load_tokenizer(tmp_path)
    assert parts(plain) == (0, 2, 3, 1)
    (tmp_path / 'config.json').write_text('{"model_type": "bert", "pad_token_id": 0}')
    assert load_tokenizer(tmp_path).files == plain.files
    (tmp_path / 'config.json').write_text('{"sep_token_id": 8}')
    assert parts(load_tokenizer(tmp_path)) == (0, 2, 8, 1)


@pytest.mark.parametrize('value', ['2', True, [0.5], {}])
def test_an_id_of_another_type_is_told_in_a_line(tmp_path: Path, spiece: bytes, value: Any):
    config = {'config': {'eos_token_id': value}}
    for folder in (saved(byte_level(), tmp_path / 'gpt2'), tmp_path):
        written(folder, spiece, config)
        with pytest.raises(UserError, match=r'config.json: eos_token_id=.* must be an id or a li'):
            load_tokenizer(folder / 'tokenizer.json' if folder.name == 'gpt2' else folder)
