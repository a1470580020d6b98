"""A finished or running workdir as a model ready for use."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training.saved import Damaged, SavedStates
from lm.training.workdir import Workdir


def load(path: str | Path) -> LanguageModel:
    """The model of a run's newest undamaged checkpoint, on the first device.

    Raises:
      UserError: there is no run, no checkpoint yet, or none that is undamaged.
    """
    workdir = Workdir(path)
    if not workdir.path.exists():
        raise UserError(f'workdir={path}: does not exist')
    config = workdir.read_config()
    if config is None:
        raise UserError(f'workdir={path}: holds no run (no config.json)')
    model = functional(config.model, POLICIES[config.precision.policy])
    params = read_newest_params(workdir, model.shapes, f'workdir={path}')
    tokenizer = load_tokenizer(workdir.tokenizer_file)
    return LanguageModel(config, model, params, tokenizer)


def read_newest_params(
    workdir: Workdir, shapes: Mapping[str, Any], words: str
) -> dict[str, jax.Array]:
    """The parameters of the newest undamaged checkpoint, where `shapes` says (or device 0).

    A damaged one that is passed over is told of on stderr.

    Args:
      workdir: of a run.
      shapes: ShapeDtypeStructs of the parameters, with or without shardings.
      words: the flag or field that names the workdir, and its value.

    Raises:
      UserError: there is none, or its parameters have other names or shapes.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        name: x if x.sharding is not None else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
        for name, x in shapes.items()
    }
    checkpoints = SavedStates(workdir.checkpoints)
    damage: list[str] = []
    for step in reversed(checkpoints.steps):
        try:
            params = checkpoints.read_params(step, like)
        except Damaged as error:
            damage.append(f'checkpoint {step} is damaged ({error})')
            continue
        for line in damage:
            print(f'lm: {words}: {line}; using step {step}', file=sys.stderr)
        return params
    raise UserError(f'{words}: {damage[0] if damage else "has no checkpoint yet"}')
