"""What a bootstrap draws."""

from dataclasses import replace

import numpy as np

from lm.scaling.draws import draw
from tests.scaling.surfaces import TRUTH, grid, scattered


def test_points_of_a_grid_are_drawn_in_each_budget() -> None:
    runs = grid(TRUTH, 4)
    draws = draw(runs, 50, seed=3)
    assert (draws.counts.reshape(50, 5, 9).sum(2) == 9).all()
    assert draws.counts.std(axis=0).min() > 0  # every point is left out of some, twice in others
    assert (draw(runs, 20, seed=3).counts == draws.counts[:20]).all()
    named = replace(runs, run=tuple(f'{i:02d}' for i in range(45)))
    assert (draw(named, 50, seed=3).counts == draws.counts).all()


def test_runs_that_pass_through_several_budgets_are_drawn_whole() -> None:
    # Size i of every budget is of run i: the same sizes are missing from every budget of a draw.
    named = replace(grid(TRUTH, 4), run=tuple(str(i % 9) for i in range(45)))
    draws = draw(named, 50, seed=3)
    assert draws.counts.shape == (50, 9) and (draws.counts.sum(1) == 9).all()
    drawn = np.bincount(draws.index(7), minlength=45).reshape(5, 9)
    assert (drawn == draws.counts[7]).all()
    assert (draws.weights(7, 9)[0].reshape(5, 9) == drawn).all()


def test_a_run_in_two_budgets_joins_all_budgets() -> None:
    # The first two budgets are of the same nine runs; how many of those are drawn varies.
    names = tuple(f'{i % 9 if i < 18 else i:02d}' for i in range(45))
    draws = draw(replace(grid(TRUTH, 4), run=names), 50, seed=3)
    assert (draws.counts.sum(1) == 36).all() and draws.counts[:, :9].sum(1).std() > 0


def test_points_without_budgets_are_drawn_together() -> None:
    draws = draw(scattered(TRUTH, 60), 4, seed=5)
    counts = np.random.default_rng(5).multinomial(60, np.full(60, 1 / 60), size=4)
    assert (draws.counts == counts).all() and len(draws) == 4
    assert (draws.index(2) == np.repeat(np.arange(60), counts[2])).all()
