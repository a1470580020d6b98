"""How well an approach foretells compute that it has not seen: fitted without the largest.

The parametric law is held against the loss of every run that was left out. Iso-FLOP and envelope
are held against the optima that the same approach finds among the runs left out (of the envelope,
on the hull of all curves): their loss and their N*.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from lm.errors import UserError
from lm.scaling.approaches import Approach, Method, fit_approach
from lm.scaling.envelope import fit_envelope
from lm.scaling.forms import fit_form
from lm.scaling.frontier import Optimum
from lm.scaling.isoflop import optima_of, slices_of
from lm.scaling.parametric import ParametricFit
from lm.scaling.runs import Runs
from lm.scaling.vertices import parabolas

TOP = 3.0
"""Unless told otherwise, what costs more than a third of the largest compute is left out."""


@dataclass(frozen=True)
class HoldOut:
    """Relative errors, predicted over observed less one, of a fit without the largest computes.

    Args:
      above: C beyond which runs were left out.
      fitted: how many points the fit saw.
      left_out: how many it did not.
      loss_errors: of the loss, of each run or optimum left out.
      params_errors: of N*, of each optimum left out; none for the parametric law.
    """

    above: float
    fitted: int
    left_out: int
    loss_errors: tuple[float, ...]
    params_errors: tuple[float, ...]

    @property
    def loss_error(self) -> float | None:
        """The mean absolute relative error of the loss; None where none was foretold."""
        return _mean_size(self.loss_errors)

    @property
    def params_error(self) -> float | None:
        """The mean absolute relative error of N*; None where none was foretold."""
        return _mean_size(self.params_errors)


def hold_out(method: Method, runs: Runs, above: float | None = None) -> HoldOut:
    """Fits an approach to the runs of at most `above` FLOPs and foretells the others.

    Args:
      method: which of the three.
      runs: points of runs.
      above: C; a third of the largest, unless given.

    Raises:
      UserError: no runs are left out, they have no optimum, or those left in do not allow the
        approach.
    """
    cut, seen = split(runs, above)
    approach = fit_approach(method, runs.where(seen), resamples=0)
    unseen = runs.where(~seen)
    count = int(seen.sum()), len(unseen)
    if isinstance(approach.fit, ParametricFit):
        losses = approach.fit.loss(unseen.params, unseen.tokens)
        return HoldOut(cut, *count, tuple((losses / unseen.losses - 1).tolist()), ())
    if method == 'isoflop':
        slices = slices_of(unseen)
        optima: Iterable[Optimum] = optima_of(slices, parabolas(slices))[0]
    else:
        optima = (optimum for optimum in fit_envelope(runs).optima if optimum.flops > cut)
    losses_and_params = [_errors(approach, optimum) for optimum in optima]
    if not losses_and_params:
        raise UserError(f'above={cut:.6g}: no optimum lies beyond; give a smaller compute')
    of_losses, of_params = zip(*losses_and_params, strict=True)
    return HoldOut(cut, *count, tuple(x for x in of_losses if x is not None), of_params)


def hold_out_form(form: str, runs: Runs, above: float | None = None) -> HoldOut:
    """Fits a form of `lm.scaling.forms` to the runs of at most `above` FLOPs; foretells the others.

    Raises:
      UserError: no runs are left out, or those left in do not allow the form.
    """
    cut, seen = split(runs, above)
    unseen = runs.where(~seen)
    losses = fit_form(form, runs.where(seen)).loss(unseen.params, unseen.tokens, unseen.compute)
    errors = tuple((losses / unseen.losses - 1).tolist())
    return HoldOut(cut, int(seen.sum()), len(unseen), errors, ())


def split(runs: Runs, above: float | None) -> tuple[float, Bool[np.ndarray, ' points']]:
    """The compute beyond which runs are held out, and the mask of the others.

    Raises:
      UserError: all runs lie on one side.
    """
    compute = runs.compute if runs.budget is None else runs.budget
    cut = float(compute.max()) / TOP if above is None else float(above)
    seen = compute <= cut
    if seen.all() or not seen.any():
        raise UserError(
            f'above={cut:.6g}: the runs are of {compute.min():.4g} to {compute.max():.4g} FLOPs; '
            'give a compute between'
        )
    return cut, seen


def _errors(approach: Approach, optimum: Optimum) -> tuple[float | None, float]:
    foretold = approach.predict(optimum.flops)
    loss = None if foretold.loss is None else foretold.loss / optimum.loss - 1
    return loss, foretold.params / optimum.params - 1


def _mean_size(errors: tuple[float, ...]) -> float | None:
    return float(np.mean(np.abs(errors))) if errors else None
