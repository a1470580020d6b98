"""How many steps a run's budget allows. Imports no jax."""

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from lm.config import Config, require
from lm.planning.counts import count_parameters
from lm.planning.flops import FlopCount, train_flops, train_flops_exact
from lm.planning.parameters import model_shape
from lm.planning.rows import num_asked, side_lengths, tokens_per_row

SECONDS_PER_HOUR = 3600


def budget_steps(config: Config) -> int | None:
    """Steps that `train.tokens`, `flops` or `tokens_per_param` allow, rounded down.

    `train.steps` where there is no budget, None where a clock decides (`train.hours`).

    Raises:
      UserError: `model.vocab_size` is needed and not known, or not one step is allowed.
    """
    train = config.train
    if train.budget is None:
        return train.steps
    if train.hours is not None:
        return None
    if train.flops is not None:
        return _steps(config, train.flops, step_flops(config), 'FLOPs')
    tokens_per_step = tokens_per_row(config) * train.batch_size
    if train.tokens is not None:
        return _steps(config, train.tokens, tokens_per_step, 'tokens')
    assert train.tokens_per_param is not None
    params = count_parameters(model_shape(config.model)).total
    allowed = Fraction(train.tokens_per_param) * params
    return _steps(config, allowed, tokens_per_step, f'tokens, with {params} parameters')


def hours_steps(config: Config, step_seconds: float) -> int:
    """Steps that `train.hours` allow, rounded down, where one takes `step_seconds`.

    Raises:
      UserError: not one step is allowed.
    """
    assert config.train.hours is not None
    seconds = Fraction(config.train.hours) * SECONDS_PER_HOUR
    return _steps(config, seconds, Fraction(step_seconds), 'seconds')


def with_steps(config: Config, steps: int | None) -> Config:
    """`config` with `train.steps` of what its budget came to; None leaves them as they are."""
    if steps is None:
        return config
    return replace(config, train=replace(config.train, steps=steps))


def _steps(config: Config, allowed: float | Fraction, a_step: int | Fraction, unit: str) -> int:
    """Whole steps in a budget, in exact numbers: a float's last bits may not add a step."""
    steps = math.floor(Fraction(allowed) / a_step)
    budget = config.train.budget
    require(
        steps >= 1,
        f'train.{budget}={getattr(config.train, str(budget))}: less than one step, which takes '
        f'{float(a_step):.6g} {unit}',
    )
    return steps


def step_flops(config: Config, rule: Callable[..., FlopCount] = train_flops) -> int:
    """FLOPs of a training step, by `train_flops` or `train_flops_exact`.

    Raises:
      UserError: `model.vocab_size` is needed and not known.
    """
    model = model_shape(config.model)
    first, *second = side_lengths(config, model.family).values()
    # 6N counts the output matrix at every position, whatever a step computes of it.
    asked = {'asked': num_asked(config)} if rule is train_flops_exact else {}
    return rule(model, first, second[0] if second else None, **asked).row * config.train.batch_size
