"""What a Hugging Face folder adds to a SentencePiece model: T5's sentinels, other tokens."""

import json
from pathlib import Path
from typing import Any

import pytest

from lm.data.tokenizer import load_tokenizer, train_tokenizer
from lm.errors import UserError
from tests.data.corpora import words

OWN = 30
COUNT = [OWN + 99 - i for i in range(100)]
"""T5's sentinels: <extra_id_0> has the highest id."""


@pytest.fixture(scope='module')
def spiece(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model like T5's: pad, eos and unk come first, and there is no bos."""
    import sentencepiece

    path = tmp_path_factory.mktemp('spiece') / 'm'
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words(2000).splitlines()), model_prefix=str(path),
        vocab_size=OWN, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece='<pad>', minloglevel=3,
    )  # fmt: skip
    return path.with_suffix('.model').read_bytes()


def written(folder: Path, spiece: bytes, files: dict[str, Any]) -> Path:
    (folder / 'spiece.model').write_bytes(spiece)
    for name, tree in files.items():
        (folder / f'{name}.json').write_text(json.dumps(tree))
    return folder


NAMES = [f'<extra_id_{i}>' for i in range(100)]


@pytest.mark.parametrize(
    'files',
    [
        {'config': {'model_type': 't5'}},
        {'tokenizer_config': {'tokenizer_class': 'T5Tokenizer'}},
        {'tokenizer_config': {'extra_ids': 100}},
        {'tokenizer_config': {'additional_special_tokens': NAMES}},
        {'special_tokens_map': {'additional_special_tokens': [{'content': n} for n in NAMES]}},
        {'added_tokens': dict(zip(NAMES, COUNT, strict=True))},
        {'tokenizer': {'added_tokens': [
            {'id': i, 'content': n} for n, i in zip(NAMES, COUNT, strict=True)]}},
        {'tokenizer_config': {'added_tokens_decoder': {
            str(i): {'content': n} for n, i in zip(NAMES, COUNT, strict=True)}}},
    ],
    ids=lambda files: next(iter(files)),
)  # fmt: skip
def test_sentinels_of_t5_count_downwards(tmp_path: Path, spiece: bytes, files: dict[str, Any]):
    tokenizer = load_tokenizer(written(tmp_path, spiece, files), rows=OWN + 100)
    vocabulary = tokenizer.vocabulary
    assert vocabulary.sentinel_ids == tuple(COUNT)
    assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.bos_id) == (0, 1, 1)
    assert (vocabulary.mask_id, vocabulary.mode_ids, vocabulary.size) == (None, (), OWN + 100)
    assert vocabulary.special_ids.isdisjoint(tokenizer.encode('<extra_id_0> </s>').tolist())
    # The model alone says it all.
    workdir = tmp_path / 'run'
    workdir.mkdir()
    (workdir / 'tokenizer.model').write_bytes(tokenizer.files['tokenizer.model'])
    again = load_tokenizer(workdir / 'tokenizer.model', rows=OWN + 128)
    assert again.sha256 == tokenizer.sha256
    assert again.vocabulary.sentinel_ids == tuple(COUNT)
    assert again.vocabulary.bos_id == OWN + 100


def test_sentinels_are_those_of_transformers(tmp_path: Path, spiece: bytes):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    written(tmp_path, spiece, {'config': {'model_type': 't5'}})
    theirs = transformers.T5Tokenizer.from_pretrained(tmp_path)
    vocabulary = load_tokenizer(tmp_path).vocabulary
    assert list(vocabulary.sentinel_ids) == theirs.convert_tokens_to_ids(NAMES)


def test_other_added_tokens_are_control_pieces(tmp_path: Path, spiece: bytes):
    files = {
        'added_tokens': {'<user>': OWN + 1, '<mask>': OWN, 'far': OWN + 5, '</s>': 1},
        'tokenizer_config': {'extra_ids': 0},
    }
    tokenizer = load_tokenizer(written(tmp_path, spiece, files), rows=OWN + 2)
    assert tokenizer.vocabulary.mask_id == OWN
    assert tokenizer.pieces([OWN, OWN + 1]) == ['<mask>', '<user>']
    assert not {OWN, OWN + 1} & set(tokenizer.encode('<user> <mask>').tolist())
    with pytest.raises(UserError, match=r'^model.vocab_size=31: the tokenizer .* has 32 ids'):
        load_tokenizer(tmp_path, rows=OWN + 1)


def test_a_model_without_additions_is_left_as_it_is(tmp_path: Path, spiece: bytes):
    assert load_tokenizer(written(tmp_path, spiece, {})).files['tokenizer.model'] == spiece


@pytest.mark.parametrize('config', [{}, {'extra_ids': 100}, {'additional_special_tokens': NAMES}])
def test_what_the_model_has_is_not_added_again(tmp_path: Path, config: dict[str, Any]):
    model = train_tokenizer('word', [words(2000)], None).files['tokenizer.model']
    files = {'config': {'model_type': 't5'}, 'tokenizer_config': config}
    assert load_tokenizer(written(tmp_path, model, files)).files['tokenizer.model'] == model
    size = load_tokenizer(tmp_path).vocabulary.size
    (tmp_path / 'added_tokens.json').write_text(json.dumps({'<x>': size, '<mask>': size + 1}))
    assert load_tokenizer(tmp_path).vocabulary.size == size + 1


def test_a_file_that_is_no_json_is_told_in_a_line(tmp_path: Path, spiece: bytes):
    written(tmp_path, spiece, {})
    (tmp_path / 'added_tokens.json').write_text('{')
    with pytest.raises(UserError, match=r'^data.tokenizer=.*added_tokens.json: is not JSON'):
        load_tokenizer(tmp_path)
