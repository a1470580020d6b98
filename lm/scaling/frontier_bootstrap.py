"""How sure an iso-FLOP or envelope fit is: the same fit of runs drawn with replacement.

The hull of a draw never lies below the hull of all curves, so the envelope's intervals are of its
optima among runs such as these; they do not know of luckier runs that were not made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lm.errors import UserError
from lm.scaling.bootstrap import RESAMPLES, Drawn, Interval, interval
from lm.scaling.compute_law import ComputeLaw
from lm.scaling.envelope import fit_envelope
from lm.scaling.frontier import Frontier
from lm.scaling.isoflop import budgets_of, slices_of, through
from lm.scaling.runs import Runs
from lm.scaling.vertices import Slice, Vertex, parabolas

Vertices = Callable[[list[Slice]], list[Vertex | str]]


@dataclass(frozen=True)
class FrontierBootstrap:
    """The laws of each resample.

    Args:
      exponents: a and b of each resample that is `kept`.
      log_constants: the same of ln N*(1) and ln D*(1).
      loss_laws: L*(C) of the kept ones whose optima's losses bear the same form as the fit's.
      resamples: how many were drawn; those kept have at least two optima.
    """

    exponents: Float64[np.ndarray, 'kept 2']
    log_constants: Float64[np.ndarray, 'kept 2']
    loss_laws: tuple[ComputeLaw, ...]
    resamples: int

    @property
    def kept(self) -> int:
        """How many resamples the errors and intervals are of."""
        return len(self.exponents)

    def columns(self) -> dict[str, Drawn]:
        """The exponents of N*(C) and D*(C) of each resample."""
        return {'a': self.exponents[:, 0], 'b': self.exponents[:, 1]}

    def standard_errors(self) -> dict[str, float]:
        """The resamples' standard deviation, by exponent."""
        return {name: float(np.std(values, ddof=1)) for name, values in self.columns().items()}

    def intervals(self, level: float = 0.9) -> dict[str, Interval]:
        """Percentile intervals, by exponent."""
        return {name: interval(values, level) for name, values in self.columns().items()}

    def optimal(self, flops: float) -> dict[str, Drawn]:
        """N*(C), D*(C) and, of those that have one, the loss of each resample."""
        logs = self.log_constants + self.exponents * np.log(float(flops))
        params, tokens = np.exp(logs).T
        found = {'params': params, 'tokens': tokens}
        if len(self.loss_laws) >= 2:
            found['loss'] = np.array([law(flops) for law in self.loss_laws])
        return found

    def optimal_intervals(self, flops: float, level: float = 0.9) -> dict[str, Interval]:
        """Percentile intervals of N*(C), D*(C) and the loss themselves."""
        return {name: interval(values, level) for name, values in self.optimal(flops).items()}


def bootstrap_isoflop(
    runs: Runs,
    fit: Frontier,
    resamples: int = RESAMPLES,
    seed: int = 0,
    vertices: Vertices = parabolas,
) -> FrontierBootstrap:
    """Fits `resamples` draws of the runs, each budget's points drawn among themselves.

    Where points of several budgets are of one run, whole runs are drawn instead.

    Args:
      runs: what `fit` was fitted to.
      fit: whose form of L*(C) the resamples take.
      resamples: at least two.
      seed: of the draws.
      vertices: how the fit finds each budget's best size.

    Raises:
      UserError: too few resamples, or hardly any has optima at two budgets.
    """

    def fits() -> Iterator[Frontier | None]:
        for drawn in _draws_of_slices(runs, resamples, seed):
            again = through(drawn, vertices(drawn))
            yield None if isinstance(again, str) else again

    return _collected(fit, fits(), resamples)


def bootstrap_envelope(
    runs: Runs, fit: Frontier, resamples: int = RESAMPLES, seed: int = 0
) -> FrontierBootstrap:
    """Fits `resamples` draws of the curves: whole runs where they have names, else points.

    Args:
      runs: what `fit` was fitted to.
      fit: whose form of L*(C) the resamples take.
      resamples: at least two.
      seed: of the draws.

    Raises:
      UserError: too few resamples, or hardly any has a hull of two sizes.
    """

    def fits() -> Iterator[Frontier | None]:
        for index in _draws_of_runs(runs, resamples, seed):
            try:
                yield fit_envelope(runs.where(index))
            except UserError:
                yield None

    return _collected(fit, fits(), resamples)


def _draws_of_runs(runs: Runs, resamples: int, seed: int) -> Iterator[np.ndarray]:
    owners, random = runs.owners(), np.random.default_rng(seed)
    count = int(owners.max()) + 1
    members = [np.flatnonzero(owners == owner) for owner in range(count)]
    for _ in range(resamples):
        yield np.concatenate([members[owner] for owner in random.integers(count, size=count)])


def _draws_of_slices(runs: Runs, resamples: int, seed: int) -> Iterator[list[Slice]]:
    if _runs_span_budgets(runs):
        for index in _draws_of_runs(runs, resamples, seed):
            yield slices_of(runs.where(index))
        return
    slices, random = slices_of(runs), np.random.default_rng(seed)
    for _ in range(resamples):
        yield [one.where(random.integers(len(one.x), size=len(one.x))) for one in slices]


def _runs_span_budgets(runs: Runs) -> bool:
    owners = runs.owners()
    pairs = np.unique(np.stack([owners, budgets_of(runs)]), axis=1)
    return pairs.shape[1] > len(np.unique(owners))


def _collected(fit: Frontier, fits: Iterator[Frontier | None], resamples: int) -> FrontierBootstrap:
    if resamples < 2:
        raise UserError(f'resamples={resamples}: give at least 2')
    kept = [again for again in fits if again is not None]
    if len(kept) < 2:
        raise UserError(
            f'runs: {len(kept)} of {resamples} resamples have a fit; give more runs, '
            'or no resamples and so no intervals'
        )
    laws = [(again.params_law, again.tokens_law) for again in kept]
    own = _loss_law(fit)
    of_losses = [law for law in map(_loss_law, kept) if law and own and law.form == own.form]
    return FrontierBootstrap(
        np.array([[law.exponent for law in pair] for pair in laws]),
        np.array([[law.log_constant for law in pair] for pair in laws]),
        tuple(of_losses),
        resamples,
    )


def _loss_law(fit: Frontier) -> ComputeLaw | None:
    try:
        return fit.loss_law
    except UserError:
        return None
