"""`--profile_steps`: which steps are traced, and what the table says of them."""

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from lm.errors import UserError
from lm.training.profile import Profiler, parse_steps, shares, table
from tests.training.runs import Runs


def test_steps_are_two_numbers() -> None:
    assert parse_steps('') is None and parse_steps('10:13') == (10, 13) == parse_steps('10:13')
    for words in ('10', '13:10', '0:3', 'a:b', '1:2:3'):
        with pytest.raises(UserError, match=f'--profile_steps={words}: must be FIRST:LAST'):
            parse_steps(words)


def test_operations_of_the_traced_calls_alone(tmp_path: Path) -> None:
    step = jax.jit(lambda a, b: jnp.tanh(a @ b) @ b)
    a, b = jnp.ones((256, 512)), jnp.ones((512, 512))
    compiled = step.lower(a, b).compile()
    profiler = Profiler(tmp_path, (2, 4))
    for number in range(1, 7):
        profiler.before(number, a)
        a = compiled(a, b)
        profiler.after(number, a)
    traced = profiler.close()
    assert traced == 3
    found = shares(tmp_path, compiled, traced, jax.devices()[0], 'float32')
    products = [share for share in found if share.gflops > 0]
    assert len(products) == 2 and all(share.times == 1 for share in products)
    assert sum(share.share for share in found) == pytest.approx(1)
    spent = sum(x.milliseconds * x.gflops for x in products) * 1e6
    assert spent == pytest.approx(2 * 2 * 256 * 512 * 512, rel=0.3)  # of means of three
    assert all(share.roofline is None for share in found)  # a CPU's peak is not known
    assert products[0].name in table(found)


def test_a_run_traces_its_steps_and_refuses_others(
    runs: Runs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words: dict[str, int] = {'train__steps': 4, 'eval__every_steps': 4}
    with pytest.raises(UserError, match='this run takes steps 1 to 4; give some'):
        runs.train('llama', tmp_path / 'refused', run_profile_steps=(2, 5), **words)
    plain = runs.train('llama', tmp_path / 'plain', **words)
    traced = runs.train('llama', tmp_path / 'traced', run_profile_steps=(2, 3), **words)
    assert traced['params_sha256'] == plain['params_sha256']
    assert 'profile    ' in capfd.readouterr().err
    with (tmp_path / 'traced/profile/operations.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert {float(row['times']) for row in rows} >= {1.0}
    assert sum(float(row['share']) for row in rows) == pytest.approx(1)
    assert not (tmp_path / 'plain/profile').exists()
