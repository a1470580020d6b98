"""Real TFDS datasets built from files at hand, with no network; needs the `[tfds]` extra."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.data.corpora import corpus

pytestmark = pytest.mark.slow

PREPARE = """
import json, sys
from lm.config import DataConfig
from lm.data.prepare import prepare
source, field, cache = sys.argv[1:]
data = DataConfig(source=source, text_field=field, tokenizer='bpe', cache_dir=cache)
prepared = prepare(data, None)
print(json.dumps(prepared.accounting | {'tensorflow': 'tensorflow' in sys.modules}))
"""
HIDDEN_TENSORFLOW = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def hidden(name, path=None, target=None):
    return None if name.partition('.')[0] == 'tensorflow' else find(name, path, target)
PathFinder.find_spec = hidden
"""


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    pytest.importorskip('tensorflow', reason="needs TensorFlow: pip install 'lm-lab[tfds]'")
    monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'tfds'))
    (tmp_path / 'tfds' / 'downloads' / 'manual').mkdir(parents=True)
    return tmp_path / 'tfds'


def prepared(source: str, field: str, cache, before: str = '') -> subprocess.CompletedProcess[str]:
    command = [sys.executable, '-c', before + PREPARE, source, field, str(cache)]
    return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))


def accounting(ran: subprocess.CompletedProcess[str]) -> dict:
    assert ran.returncode == 0, ran.stderr
    # Where it looks for TensorFlow in vain, TFDS says so on stdout.
    return json.loads(ran.stdout.splitlines()[-1])


def test_tiny_shakespeare_builds_offline_and_is_then_read_without_tensorflow(data_dir, tmp_path):
    source = corpus('general/tinyshakespeare.txt')
    shutil.copy(source, data_dir / 'downloads' / 'manual' / 'input.txt')
    built = accounting(prepared('tfds:tiny_shakespeare', 'text', tmp_path / 'a'))
    assert not built['tensorflow'], 'TensorFlow is for the process that prepares'
    assert built['split'] == 'source'
    size = source.stat().st_size
    assert built['train']['bytes'] == int(0.9 * size)
    again = prepared('tfds:tiny_shakespeare', 'text', tmp_path / 'b', HIDDEN_TENSORFLOW)
    assert accounting(again)['train'] == built['train']


def test_xquad_builds_offline(data_dir, tmp_path):
    shutil.copy(corpus('tasks/xquad/xquad.en.json'), data_dir / 'downloads' / 'manual')
    built = accounting(prepared('tfds:xquad/en', 'context', tmp_path / 'a'))
    assert built['read']['documents'] == 1190
    assert built['split'] == 'name'
    kept = sum(built[part]['documents'] for part in ('train', 'validation'))
    assert kept + sum(built['dropped'].values()) == 1190


def test_what_cannot_be_downloaded_is_one_line_in_bounded_time(data_dir, tmp_path):
    began = time.monotonic()
    ran = prepared('tfds:lm1b', 'text', tmp_path / 'a')
    assert time.monotonic() - began < 90
    assert 'cannot be prepared (ConnectionError' in ran.stderr.splitlines()[-1]
