"""Weights & Biases. Its variables say where to: WANDB_PROJECT (else `lm`), WANDB_MODE=offline, ...

What is recorded offline lies in the workdir, in a folder for each time that the run went on; `wandb
sync` makes one run of them.
"""

import os
from pathlib import Path
from typing import Any

PACKAGES = ('wandb',)


class Wandb:
    """A run there. Its x-axis is `step`, since wandb's own may not go back to one taken again."""

    def __init__(self, run: Any):
        self._run = run
        self.run_id: str = run.id

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Adds a point to each curve."""
        self._run.log({'step': step, **numbers})

    def close(self, summary: dict[str, Any] | None) -> None:
        """Waits for what is on its way; without a summary the run counts as failed."""
        if summary is not None:
            self._run.summary.update(summary)
        self._run.finish(exit_code=0 if summary is not None else 1)


def start(name: str, config: dict[str, Any], workdir: Path, run_id: str | None) -> Wandb:
    """A new run, or the one of before."""
    import wandb

    run = wandb.init(
        project=os.environ.get('WANDB_PROJECT', 'lm'),
        name=name,
        id=run_id,
        resume=None if run_id is None else 'allow',
        dir=workdir,
        # Standard output is a verb's own, and a resumed run has said what is in the workdir.
        settings=wandb.Settings(silent=True, console='off'),
    )
    run.config.update(config, allow_val_change=True)
    run.define_metric('*', step_metric='step')
    return Wandb(run)
