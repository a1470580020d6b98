"""A finished or running workdir as a model ready for use."""

from dataclasses import replace
from pathlib import Path

import jax

from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training.checkpoint import Checkpoints, Damaged
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
    params = read_newest_params(workdir, model.shapes)
    tokenizer = load_tokenizer(workdir.tokenizer_file)
    return LanguageModel(config, model, params, tokenizer)


def read_newest_params(
    workdir: Workdir, shapes: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """The parameters of the newest undamaged checkpoint, where `shapes` says (or device 0).

    Raises:
      UserError: there is none, or its parameters have other names or shapes.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        name: x if x.sharding is not None else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
        for name, x in shapes.items()
    }
    config = workdir.read_config()
    if config is None or not workdir.checkpoints.is_dir():
        raise UserError(f'workdir={workdir.path}: has no checkpoint yet')
    keep_all = replace(config.checkpoint, keep_latest=10**9)
    checkpoints = Checkpoints(workdir.checkpoints, keep_all)
    damage = 'has no checkpoint yet'
    for step in reversed(checkpoints.steps):
        try:
            return checkpoints.read_params(step, like)
        except Damaged as error:
            damage = f'checkpoint {step} is damaged ({error})'
    raise UserError(f'workdir={workdir.path}: {damage}')
