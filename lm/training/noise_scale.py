"""The gradient noise scale (McCandlish et al. 2018, appendix A.1), measured while a run trains.

The gradient of a microbatch is as noisy as that of a small batch, their sum that of a large one;
how much their squared norms differ tells how much of either is noise.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from lm.training.loop import Report

DECAY = 0.99
"""Of the moving averages, a step: they look back over about a hundred."""


@dataclass
class NoiseScale:
    """Moving averages of |G|^2 and of tr(Sigma), G the true gradient and Sigma the covariance of a
    row's; each unbiased, so they are averaged apart, and only then divided.

    Goes with every checkpoint.

    Attributes:
      square: sum over the steps of the estimate of |G|^2, each weighted by DECAY ** its age.
      variance: the same of tr(Sigma).
      weight: the same of 1.
    """

    batch_size: int
    square: float = 0.0
    variance: float = 0.0
    weight: float = 0.0

    def __call__(self, report: Report) -> None:
        """Takes in a step; one of which only a single microbatch had a target tells nothing."""
        if report.spread is None or report.spread.parts < 2:
            return
        if not math.isfinite(report.grad_norm):  # a step that was skipped
            return
        square, variance = estimates(report, self.batch_size)
        self.square = DECAY * self.square + square
        self.variance = DECAY * self.variance + variance
        self.weight = DECAY * self.weight + 1

    def row(self) -> dict[str, float | None]:
        """What metrics.jsonl tells; `noise_scale` is in rows, as `train.batch_size` is.

        It is null while the noise outweighs the gradient so far that |G|^2 is not positive.
        """
        if self.weight == 0:
            return {'noise_scale': None, 'gradient_square': None, 'gradient_variance': None}
        return {
            'noise_scale': self.variance / self.square if self.square > 0 else None,
            'gradient_square': self.square / self.weight,
            'gradient_variance': self.variance / self.weight,
        }

    def to_json(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        kept = asdict(self)
        del kept['batch_size']
        return kept

    def from_json(self, record: dict[str, Any]) -> None:
        """Goes on from the numbers of a checkpoint."""
        self.square, self.variance = float(record['square']), float(record['variance'])
        self.weight = float(record['weight'])


def estimates(report: Report, batch_size: int) -> tuple[float, float]:
    """Unbiased estimates of |G|^2 and of tr(Sigma), the covariance of one row's gradient.

    Of M microbatches of B / M rows, with n = |g|^2 of the whole and m the mean of theirs, appendix
    A.1 has E n = |G|^2 + tr(Sigma) / B and E m = |G|^2 + tr(Sigma) M / B. Microbatches of w targets
    have gradients as noisy as 1 / w: m is their mean weighted by w, whose expectation is the same
    whatever the counts are, and those without a target count neither in m nor in M.
    """
    assert report.spread is not None
    whole = report.grad_norm**2
    noise = (report.spread.square - whole) / (report.spread.parts - 1)  # tr(Sigma) / B
    return whole - noise, noise * batch_size
