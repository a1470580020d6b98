"""The code of the guides, of README.md and of BUILD.md: every flag exists, every file runs.

Runs are made small: what `SMALL` says is added to each command that trains.
"""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import launch.main
import lm
from lm import registry
from lm.config import Config
from lm.flags import Flags
from tests.docs.pages import GUIDES, ROOT, Block, blocks

LOG = ROOT / 'docs' / 'LOG.md'
SMALL: dict[str, Any] = {
    'model.num_layers': 1, 'model.d_model': 16, 'model.num_heads': 2, 'model.num_kv_heads': None,
    'model.vocab_size': None, 'model.max_positions': 32, 'data.source': 'text.txt',
    'data.tokenizer': 'char', 'optim.warmup_steps': 1, 'train.steps': 3, 'train.batch_size': 4,
    'train.seq_len': 16, 'eval.batches': 1, 'eval.sample_tokens': 0, 'mesh.devices': 1,
}  # fmt: skip
SMALL_SWEEP = (f'--source={LOG}', '--flops=3e10', '--warmup_steps=1')
PAGES = [ROOT / 'README.md', ROOT / 'BUILD.md', *GUIDES]
ADDING = [page for page in GUIDES if page.stem.startswith('add_')]


def by_name(pages: list[Path]) -> Any:
    return pytest.mark.parametrize('page', pages, ids=lambda page: page.stem)


@pytest.fixture(scope='session')
def cache(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp('cache')
    return folder


@pytest.fixture
def folder(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a text to work in; what is registered there is forgotten."""
    monkeypatch.setattr(registry, '_registered', {})
    monkeypatch.setenv('LM_CACHE', str(cache))
    monkeypatch.chdir(tmp_path)
    Path('text.txt').write_text(LOG.read_text(encoding='utf-8')[-6000:], encoding='utf-8')
    yield tmp_path


def write_file(block: Block, folder: Path) -> None:
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding='utf-8')


@by_name(PAGES)
def test_every_command_is_one_and_its_flags_are_flags(page: Path, folder: Path) -> None:
    found = blocks(page)
    for block in found:
        if block.title and '/' not in block.title:
            write_file(block, folder)
    checked = 0
    for block in found:
        if block.language == 'bash':
            for words in block.commands:
                checked += check(words, block.place)
    assert checked or page.stem in ('troubleshooting',), f'{page.name}: no command was found'


def check(words: list[str], place: str) -> bool:
    """Reads a command's flags as the command itself does; whether it is one of ours."""
    try:
        if words[0] == 'lm':
            check_verb(words[1], words[2:], place)
        elif words[:2] == ['python', '-m'] and words[2].startswith(('experiments.', 'benchmarks.')):
            flags = Flags(words[3:])
            # Without a function of that name it takes no flags.
            getattr(importlib.import_module(words[2]), '_define_flags', lambda _: None)(flags)
            flags.parse()
        else:
            return False
    except lm.UserError as error:
        pytest.fail(f'{place}: {" ".join(words)}: {error}')
    return True


def check_verb(verb: str, words: list[str], place: str) -> None:
    if verb == 'help' or '--help' in words:
        return
    assert verb in launch.main.verbs(), f'{place}: lm {verb}'
    _, flags = launch.main.read_flags(verb, words)
    if verb == 'launch':
        inner, *rest = flags.command
        check_verb(inner, rest, place)
    elif flags.peek('config') is not None:
        flags.config()


@by_name([ROOT / 'README.md', *GUIDES])
def test_a_page_does_what_it_says(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.stem == 'README':
        monkeypatch.setattr(lm, 'load_config', small_config(lm.load_config))
    perform(blocks(page), folder, slow=False)


@pytest.mark.slow  # trains: four runs, each compiled anew, and a sweep with a process a run
@by_name([page for page in GUIDES if any(block.slow for block in blocks(page))])
def test_the_slow_parts_of_a_page_do_what_they_say(page: Path, folder: Path) -> None:
    perform(blocks(page), folder, slow=True)


def perform(found: list[Block], folder: Path, slow: bool) -> None:
    """Writes files, runs Python in one namespace, and the commands that are to be run."""
    namespace: dict[str, Any] = {}
    for block in found:
        if block.mark.startswith('not run: ') or (block.slow and not slow):
            continue
        if block.title:
            write_file(block, folder)
        elif block.language == 'python':
            exec(compile(block.text, block.place, 'exec'), namespace)
        elif block.language == 'bash' and block.mark:
            for words in block.commands:
                if words[0] == 'lm':
                    status = launch.main.main([*words[1:], *smaller(words)])
                    assert status == 0, f'{block.place}: {" ".join(words)}'


def smaller(words: list[str]) -> list[str]:
    """What is added to a command so that it takes seconds."""
    if words[1] == 'sweep':
        return [*SMALL_SWEEP]
    if words[1] not in ('train', 'data'):
        return []
    # Examples are not to be had of any text.
    own = {'data.source', 'data.tokenizer'} if any('text_to_text' in w for w in words) else set()
    return [f'--config.{path}={value}' for path, value in SMALL.items() if path not in own]


def small_config(load: Any) -> Any:
    def loaded(name: str, **overrides: Any) -> Config:
        config: Config = load(name, **{**overrides, **SMALL})
        return config

    return loaded


@pytest.mark.slow  # runs the contract tests of a new member in a copy of the repository
@by_name(ADDING)
def test_what_is_added_becomes_part_of_lm(page: Path, tmp_path: Path) -> None:
    for name in ('lm', 'launch', 'experiments', 'tests', 'benchmarks'):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__', '*.md')
        )
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    tested = 0
    for block in blocks(page):
        if block.title:
            write_file(block, tmp_path)
        elif block.language == 'diff':
            subprocess.run(
                ['git', 'apply', '-'], input=block.text, text=True, cwd=tmp_path, check=True
            )
        for words in block.commands if block.language == 'bash' else []:
            if words[:2] == ['git', 'mv']:
                shutil.move(tmp_path / words[2], tmp_path / words[3])
            if words[0] == 'pytest':
                done = subprocess.run(
                    [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *words[1:]],
                    cwd=tmp_path, capture_output=True, text=True,
                    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
                )  # fmt: skip
                assert done.returncode == 0, done.stdout[-3000:]
                tested += 1
    assert tested == 1
    for words in (['check'], ['format', '--check']):
        subprocess.run([sys.executable, '-m', 'ruff', *words, '.'], cwd=tmp_path, check=True)
