"""Runs for tests: in this process, or in one of their own that can be killed."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm
from lm.config import Config

CONFIG = Path(__file__).with_name('tiny_config.py')
ROOT = Path(__file__).parent.parent.parent
FAMILIES = ('gpt2', 'bert', 't5')
TIMES = ('seconds', 'tokens_per_second', 'mfu', 'compile_seconds', 'peak_device_bytes')
"""What two equal runs may tell differently."""


def write_text(path: Path, size: int = 60_000) -> Path:
    """One document of words that partly follow from each other, so that there is much to learn."""
    draw = random.Random(0)
    words = [''.join(draw.choices('aeioubcdlmnrst', k=draw.randint(2, 7))) for _ in range(150)]
    text, word = '', 0
    while len(text) < size:
        word = (word * 7 + draw.choice((1, 2, 3))) % len(words)
        text += words[word] + draw.choice((' ', ' ', ' ', '.\n'))
    path.write_text(text, encoding='utf-8')
    return path


class Runs:
    """Trains tiny models on one text with one cache."""

    def __init__(self, text: Path, cache: Path):
        self.text, self.cache = text, cache

    def config(self, family: str, **overrides: Any) -> Config:
        """The tiny config of a family; `train__steps=5` sets `train.steps`."""
        paths = {name.replace('__', '.'): value for name, value in overrides.items()}
        data = {'data.source': str(self.text), 'data.cache_dir': str(self.cache)}
        return lm.load_config(f'{CONFIG}:{family}', **{**data, **paths})

    def train(self, family: str, workdir: Path | str, **overrides: Any) -> dict[str, Any]:
        """Runs in this process; returns the summary. Words for `lm.train` begin with `run_`."""
        words = {k[4:]: overrides.pop(k) for k in list(overrides) if k.startswith('run_')}
        summary: dict[str, Any] = lm.train(self.config(family, **overrides), workdir, **words)
        return summary

    def start(
        self,
        family: str,
        workdir: Path | str,
        *words: str,
        prefix: tuple[str, ...] = (),
        **overrides: Any,
    ) -> 'subprocess.Popen[str]':
        """Starts `lm train` in a process of its own."""
        flags = [f'--config.{k.replace("__", ".")}={v}' for k, v in overrides.items()]
        command = prefix or (sys.executable, '-m', 'launch')
        return subprocess.Popen(
            [
                *command, 'train', f'--config={CONFIG}:{family}', f'--workdir={workdir}',
                f'--config.data.source={self.text}', f'--config.data.cache_dir={self.cache}',
                *flags, *words,
            ],
            cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ},
        )  # fmt: skip


def wait_for(process: 'subprocess.Popen[str]', happened: Callable[[], bool]) -> None:
    """Returns once something has happened; fails if the process ends before."""
    deadline = time.monotonic() + 120
    while not happened():
        if process.poll() is not None:
            raise AssertionError(f'ended early: {process.communicate()[1][-2000:]}')
        assert time.monotonic() < deadline, 'nothing happened'
        time.sleep(0.002)


def last_step(workdir: Path) -> int:
    """The last step that metrics.jsonl tells of."""
    rows = read_rows(workdir / 'metrics.jsonl')
    return rows[-1]['step'] if rows else 0


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split('\n')[:-1]]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what a clock told."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def saved_steps(workdir: Path) -> list[int]:
    folder = workdir / 'checkpoints'
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal())


def same_run(one: Path, other: Path) -> None:
    """Asserts that two workdirs hold the same run to the last bit."""
    for name in ('metrics.jsonl', 'eval.jsonl'):
        assert timeless(read_rows(one / name)) == timeless(read_rows(other / name))
    summaries = [json.loads((w / 'summary.json').read_text()) for w in (one, other)]
    first, second = timeless(summaries)
    assert first == second


def snapshot(workdir: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what it holds."""
    return {
        str(p.relative_to(workdir)): (p.stat().st_mtime_ns, p.read_bytes())
        for p in sorted(workdir.rglob('*'))
        if p.is_file()
    }


def one_line(stderr: str) -> str:
    """The error of a run that ended with status 2: the last line, after no traceback."""
    assert 'Traceback' not in stderr, stderr[-3000:]
    lines = stderr.strip().split('\n')
    errors = [line for line in lines if re.match(r'lm train: ', line)]
    assert errors == lines[-1:], stderr[-3000:]
    return errors[0]
