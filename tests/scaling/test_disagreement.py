"""Whether approaches differ beyond their errors."""

from dataclasses import replace

import numpy as np
import pytest

from lm.scaling.approaches import METHODS, Approach, fit_approach
from lm.scaling.disagreement import Comparison, compare, unbiased
from lm.scaling.runs import Runs, read_runs
from tests.scaling.published import column, published
from tests.scaling.surfaces import TRUTH, grid


def both(runs: Runs, resamples: int = 200) -> dict[str, Approach]:
    return {
        method: fit_approach(method, runs, resamples) for method in METHODS if method != 'envelope'
    }


def of_a(compared: list[Comparison]) -> Comparison:
    return next(one for one in compared if one.flops is None)


@pytest.mark.parametrize('outliers', [True, False])
def test_marin(outliers: bool) -> None:
    path = published('isoflop_marin_comma.csv')
    runs = read_runs(path)
    if not outliers:
        runs = runs.where(column(path, 'outlier') == '0')
    fits = both(runs)
    assert of_a(compare(fits, [])).beyond_errors
    other = unbiased(fits['isoflop'], runs, 40, 0)
    assert other is not None
    explained = of_a(compare({'parametric': fits['parametric'], 'exponentials': other}, []))
    assert not explained.beyond_errors and abs(explained.values[0] - explained.values[1]) < 0.025


def test_chinchillas_grid_disagrees_too() -> None:
    fits = both(read_runs(published('isoflop_chinchilla_epoch.csv')))
    found = of_a(compare(fits, []))
    assert found.values == pytest.approx([0.5616, 0.4920], abs=5e-5)
    assert found.beyond_errors


def test_the_difference_is_of_the_same_draws() -> None:
    fits = both(grid(TRUTH, 4, noise=0.003), 50)
    of_one, of_other = (
        x.resampled.optimal(1e23)['params'] for x in fits.values() if x.resampled is not None
    )
    exponent, size = compare(fits, [1e23], 0.8)
    assert size.flops == 1e23 and (size.first, size.second) == ('parametric', 'isoflop')
    assert size.difference == pytest.approx(np.quantile(of_one / of_other, [0.1, 0.9]))
    assert exponent.values == (fits['parametric'].fit.a, fits['isoflop'].fit.a)
    assert size.values[1] == fits['isoflop'].predict(1e23).params


def test_approaches_that_agree() -> None:
    fits = both(grid(TRUTH, 4, noise=0.003, sizes=15))
    assert not any(one.beyond_errors for one in compare(fits, [1e22], 0.99))


def test_a_bias_is_found_where_there_is_no_noise_to_hide_it() -> None:
    runs = grid(TRUTH, 8, noise=1e-5)
    fits = both(runs, 50)
    _, size = compare(fits, [1e20])
    assert size.beyond_errors and size.values[1] < size.values[0]
    other = unbiased(fits['isoflop'], runs, 50, 0)
    assert other is not None
    _, size = compare({'parametric': fits['parametric'], 'exponentials': other}, [1e20], 0.99)
    assert not size.beyond_errors


def test_approaches_without_a_common_draw_are_not_compared() -> None:
    fits = both(grid(TRUTH, 4, noise=0.003), 10)
    one, other = fits.values()
    assert other.resampled is not None
    apart = replace(other.resampled, draws=other.resampled.draws + 1000)
    assert compare({'parametric': one, 'isoflop': replace(other, resampled=apart)}, [1e22]) == []


def test_without_resamples_nothing_is_compared() -> None:
    assert compare(both(grid(TRUTH, 4), 0), [1e22]) == []
    few = fit_approach('isoflop', grid(TRUTH, 4, sizes=3), 0)
    assert unbiased(few, grid(TRUTH, 4, sizes=3), 10, 0) is None
