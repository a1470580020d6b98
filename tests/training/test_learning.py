"""Every family begins at the loss of a guess and learns one batch by heart."""

import math
from pathlib import Path

import pytest

from lm.training.workdir import Workdir
from tests.training.runs import Runs, read_rows

STEPS = {'llama': 150, 'gpt2': 150, 'bert': 150, 't5': 150}


@pytest.mark.parametrize('family', STEPS)
def test_one_batch_is_learnt_by_heart(family: str, runs: Runs, tmp_path: Path) -> None:
    workdir = tmp_path / 'run'
    summary = runs.train(
        family, workdir, data__overfit_batches=1, train__steps=STEPS[family], train__batch_size=4,
        model__d_model=64, model__d_ff=128, model__dropout=0.0, optim__peak_lr=1e-2,
        optim__weight_decay=0.0, optim__schedule='cosine', eval__every_steps=1000,
        checkpoint__every_steps=1000,
    )  # fmt: skip
    config = Workdir(workdir).read_config()
    assert config is not None
    rows = read_rows(workdir / 'metrics.jsonl')
    # The loss of step 1 is that of the parameters as they were drawn.
    assert rows[0]['loss'] == pytest.approx(math.log(config.model.tokens), rel=0.05)
    assert min(row['loss'] for row in rows) < 0.05
    assert summary['final_loss'] < 0.05
    # Held-out text is not that batch.
    assert summary['eval_loss'] > 1
