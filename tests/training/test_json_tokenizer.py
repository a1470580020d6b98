"""A run with a `tokenizer.json`: prepared, trained, gone on with, loaded."""

from pathlib import Path

import pytest

import lm
from lm.data.tokenizer import load_tokenizer
from lm.training.workdir import Workdir
from tests.data.corpora import words
from tests.training.runs import Runs, read_rows

tokenizers = pytest.importorskip('tokenizers', reason='the extra hub is not installed')


def test_a_run_with_a_tokenizer_json_from_text_to_loaded_model(tmp_path: Path) -> None:
    from tests.data.test_json_tokenizer import byte_level, saved

    folder = saved(byte_level(), tmp_path / 'gpt2', eos_token='<|endoftext|>')
    (tmp_path / 'text.txt').write_text(words(2000))
    runs = Runs(tmp_path / 'text.txt', tmp_path / 'cache')
    fields = {'data__tokenizer': str(folder), 'model__num_layers': 1, 'train__batch_size': 2}
    runs.train('gpt2', tmp_path / 'run', train__steps=2, **fields)
    runs.train('gpt2', tmp_path / 'run', train__steps=4, **fields)
    workdir = Workdir(tmp_path / 'run')
    assert [row['step'] for row in read_rows(workdir.metrics_file)] == [1, 2, 3, 4]
    assert workdir.tokenizer_file.name == 'tokenizer.json'
    assert (workdir.path / 'tokenizer_config.json').exists()
    model = lm.load(tmp_path / 'run')
    given = load_tokenizer(folder)
    assert model.config.model.vocab_size == given.vocabulary.size
    assert load_tokenizer(workdir.path).sha256 == given.sha256
    assert model.tokenizer.vocabulary == given.vocabulary
    assert model.tokenizer.decode(model.tokenizer.encode('the cat')) == 'the cat'
