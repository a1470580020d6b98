"""Folders that look like those of runs, of numbers that the test knows."""

import json
from pathlib import Path
from typing import Any

from lm.named_configs import load_config
from lm.training.workdir import Workdir, append_jsonl, write_json, write_jsonl

TOKENS = 512
"""Read in a step."""


def write_run(
    path: Path,
    name: str = 'llama_tiny',
    losses: list[float | None] | None = None,
    held_out: list[tuple[int, float]] = (),  # type: ignore[assignment]
    summary: dict[str, Any] | None = None,
    **overrides: Any,
) -> Path:
    """A run with a row of metrics a step, a second each, and these losses.

    Args:
      held_out: step and loss of each row of eval.jsonl; the last is of the whole text.
      summary: what summary.json says; None: there is none.
    """
    folder = Workdir(path)
    folder.create()
    fields = {name.replace('__', '.'): value for name, value in overrides.items()}
    folder.write_config(load_config(name, **{'model.vocab_size': 500, **fields}))
    rows = [
        {
            'step': i, 'tokens': i * TOKENS, 'loss': loss, 'grad_norm': 1 / i,
            'learning_rate': 1e-3 * i, 'tokens_per_second': 512.0, 'mfu': None, 'seconds': float(i),
        }
        for i, loss in enumerate(losses or [], 1)
    ]  # fmt: skip
    write_jsonl(folder.metrics_file, rows)
    for step, loss in held_out:
        whole = step == held_out[-1][0]
        append_jsonl(folder.eval_file, {'step': step, 'loss': loss, 'targets': 9, 'whole': whole})
    if summary is not None:
        write_json(folder.summary_file, summary)
    return path


def add_line(path: Path, line: Any) -> None:
    """A line at the end of metrics.jsonl: text as it is, all else as JSON."""
    with Workdir(path).metrics_file.open('a') as file:
        file.write((line if isinstance(line, str) else json.dumps(line)) + '\n')
