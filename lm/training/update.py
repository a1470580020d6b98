"""What the optimizer makes of a gradient: the last part of a step."""

from collections.abc import Callable
from typing import Any

import optax

from lm.shapes import Params

Update = Callable[[Params, Any, Params], tuple[Params, Any]]
"""Gradients, optimizer state and parameters -> the parameters and the state after the update."""


def plain_update(optimizer: optax.GradientTransformation) -> Update:
    """All parameters at once, each where its gradient and its state lie."""

    def update(gradients: Params, opt_state: Any, params: Params) -> tuple[Params, Any]:
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return update
