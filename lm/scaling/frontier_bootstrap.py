"""How sure an iso-FLOP or envelope fit is: the same fit of runs drawn with replacement.

The hull of a draw never lies below the hull of all curves, so the envelope's intervals are of its
optima among runs such as these; they do not know of luckier runs that were not made.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from lm.errors import UserError
from lm.scaling.bootstrap import RESAMPLES, Drawn, Interval, interval
from lm.scaling.compute_law import ComputeLaw
from lm.scaling.draws import Draws, draw
from lm.scaling.envelope import fit_envelope
from lm.scaling.frontier import Frontier
from lm.scaling.isoflop import slices_of, through
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
      draws: the number of each kept one's draw.
      resamples: how many were drawn; those kept have at least two optima.
    """

    exponents: Float64[np.ndarray, 'kept 2']
    log_constants: Float64[np.ndarray, 'kept 2']
    loss_laws: tuple[ComputeLaw, ...]
    draws: Int64[np.ndarray, ' kept']
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
    """Fits `resamples` draws of the runs.

    Args:
      runs: what `fit` was fitted to.
      fit: whose form of L*(C) the resamples take.
      resamples: at least two.
      seed: of the draws.
      vertices: how the fit finds each budget's best size.

    Raises:
      UserError: too few resamples or runs, or hardly any has optima at two budgets.
    """

    def again(drawn: Runs) -> Frontier | None:
        slices = slices_of(drawn)
        found = through(slices, vertices(slices))
        return None if isinstance(found, str) else found

    return _collected(fit, again, runs, draw(runs, resamples, seed))


def bootstrap_envelope(
    runs: Runs, fit: Frontier, resamples: int = RESAMPLES, seed: int = 0
) -> FrontierBootstrap:
    """Fits `resamples` draws of the curves.

    Args:
      runs: what `fit` was fitted to.
      fit: whose form of L*(C) the resamples take.
      resamples: at least two.
      seed: of the draws.

    Raises:
      UserError: too few resamples or runs, or hardly any has a hull of two sizes.
    """

    def again(drawn: Runs) -> Frontier | None:
        try:
            return fit_envelope(drawn)
        except UserError:
            return None

    return _collected(fit, again, runs, draw(runs, resamples, seed))


def _collected(
    fit: Frontier, again: Callable[[Runs], Frontier | None], runs: Runs, draws: Draws
) -> FrontierBootstrap:
    """The fits of all draws, of which those that have none are left out."""
    tried = ((i, again(runs.where(draws.index(i)))) for i in range(len(draws)))
    kept = {i: found for i, found in tried if found is not None}
    if len(kept) < 2:
        raise UserError(
            f'runs: {len(kept)} of {len(draws)} resamples have a fit; give more runs, '
            'or no resamples and so no intervals'
        )
    laws = [(found.params_law, found.tokens_law) for found in kept.values()]
    own, others = _loss_law(fit), map(_loss_law, kept.values())
    return FrontierBootstrap(
        np.array([[law.exponent for law in pair] for pair in laws]),
        np.array([[law.log_constant for law in pair] for pair in laws]),
        tuple(law for law in others if law and own and law.form == own.form),
        np.array(list(kept)),
        len(draws),
    )


def _loss_law(fit: Frontier) -> ComputeLaw | None:
    try:
        return fit.loss_law
    except UserError:
        return None
