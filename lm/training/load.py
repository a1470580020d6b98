"""A run, a converted model or a Hugging Face folder as a model ready for use."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax

from lm.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from lm.data.tokenizer import has_tokenizer, load_tokenizer
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.hub.folder import Weights, open_folder
from lm.hub.foreign_config import is_foreign, label_names
from lm.hub.trained_form import with_form
from lm.models.functional import functional
from lm.precision.policy import POLICIES, policy_of
from lm.resolution import resolve_options
from lm.storage import is_stored, require_disk
from lm.training.kept_programs import keep_programs
from lm.training.program import resolve_policy
from lm.training.quantized import held_shapes, is_quantized, joined, policy_of_quantized
from lm.training.saved import Damaged, SavedStates
from lm.training.workdir import Workdir

T = TypeVar('T')

OBJECTIVES = {'encoder': 'mlm', 'decoder': 'clm', 'encoder_decoder': 'span_corruption'}
"""What a foreign model of a family is taken to have learnt, but for those of `OWN_OBJECTIVES`.

One that was exported here tells it (`lm/hub/trained_form.py`).
"""
OWN_OBJECTIVES = {'bart': 'denoising'}
"""The same by architecture."""
LABEL_OBJECTIVES = {
    'sequence': 'sequence_classification',
    'token': 'token_classification',
    'span': 'question_answering',
}
"""The same of a foreign model with a head for labels."""
LONGEST_WINDOW = 1024
"""Texts are scored in windows of a foreign model's context, but no longer than this."""


def load(path: str | Path) -> LanguageModel:
    """The model in a workdir (its newest undamaged checkpoint) or in a Hugging Face folder.

    It lies on the first device, its parameters in the dtypes that they were saved in: int8 where
    `lm convert --quantize` made it.

    Args:
      path: of either.

    Raises:
      UserError: there is no run, no checkpoint yet, or none that is undamaged; or a Hugging Face
        folder that cannot be read or holds what is not supported.
    """
    if is_stored(path):
        return load_run(path)
    folder = Path(path).expanduser()
    return load_foreign(folder) if is_foreign(folder) else load_run(folder)


def load_run(path: str | Path) -> LanguageModel:
    """The model of a workdir; raises as `load`."""
    workdir = Workdir(path)
    if not workdir.path.exists():
        raise UserError(f'workdir={path}: does not exist')
    if is_foreign(workdir.path):
        raise UserError(f'workdir={path}: is a Hugging Face folder; give it as --hf')
    config = workdir.read_config()
    if config is None:
        raise UserError(f'workdir={path}: holds no run (no config.json)')
    keep_programs(config.data)
    config = resolve_policy(config)
    policy, small = policy_of(config.precision), is_quantized(workdir)
    model = functional(config.model, policy_of_quantized(policy) if small else policy)
    shapes = held_shapes(model.shapes, model.dims) if small else model.shapes
    params = joined(read_newest_params(workdir, shapes, f'workdir={path}'))
    tokenizer = None
    if has_tokenizer(workdir.path):
        tokenizer = load_tokenizer(workdir.path, config.model.tokens, words='workdir')
    return LanguageModel(config, model, params, tokenizer)


def load_foreign(path: str | Path) -> LanguageModel:
    """The model of a Hugging Face folder; raises as `load`."""
    require_disk('hf', path)
    folder = Path(path).expanduser()
    if not folder.exists():
        raise UserError(f'hf={path}: does not exist')
    if folder.is_dir() and not is_foreign(folder) and Workdir(folder).config_file.exists():
        raise UserError(f"hf={path}: is no Hugging Face folder; if it is a run's, give --workdir")
    weights = open_folder(folder)
    tokenizer = None
    if has_tokenizer(folder):
        tokenizer = load_tokenizer(folder, weights.config.tokens, words='hf')
    config = resolve_policy(config_of(weights, folder))
    keep_programs(config.data)
    model = functional(config.model, policy_of(config.precision))
    return LanguageModel(config, model, weights.params(), tokenizer)


def config_of(weights: Weights, source: Path) -> Config:
    """The config of a foreign model: its shape, and the form that it was trained in.

    That is what `lm.json` beside it tells, or else what its family trains with.

    Raises:
      UserError: `lm.json` tells what cannot be.
    """
    model: ModelConfig = weights.config
    family = functional(model, POLICIES['fp32']).family
    window = min(model.max_positions, LONGEST_WINDOW)
    name = LABEL_OBJECTIVES.get(model.head or '') or OWN_OBJECTIVES.get(model.name)
    guessed = resolve_options(
        Config(
            model=model,
            objective=ObjectiveConfig(name or OBJECTIVES[family]),
            train=TrainConfig(seq_len=window),
        )
    )
    if model.num_labels is not None:
        options = replace(guessed.objective.options, labels=label_names(source, model.labels))
        guessed = replace(guessed, objective=replace(guessed.objective, options=options))
    return with_form(guessed, source)


def read_newest_params(
    workdir: Workdir, shapes: Mapping[str, Any], words: str
) -> dict[str, jax.Array]:
    """The parameters of the newest undamaged checkpoint, where `shapes` says (or device 0).

    A damaged one that is passed over is told of on stderr.

    Args:
      workdir: of a run.
      shapes: ShapeDtypeStructs of the parameters, with or without shardings; the parameters come
        in the dtypes they were saved in.
      words: the flag or field that names the workdir, and its value.

    Raises:
      UserError: there is none, or its parameters have other names or shapes.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        name: x if x.sharding is not None else jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here)
        for name, x in shapes.items()
    }
    checkpoints = SavedStates(workdir.checkpoints, workdir.stored)
    steps = checkpoints.steps[::-1]
    return newest_undamaged(steps, words, lambda step: checkpoints.read_params(step, like))[1]


def newest_undamaged(steps: Sequence[int], words: str, read: Callable[[int], T]) -> tuple[int, T]:
    """What `read` gives of the first step that is not damaged, and that step.

    Those that are passed over are told of on stderr.

    Args:
      steps: the newest first.
      words: the flag or field that names the checkpoints, and its value.
      read: raises `Damaged`.

    Raises:
      UserError: there are none, or all are damaged.
    """
    damage: list[str] = []
    for step in steps:
        try:
            found = read(step)
        except Damaged as error:
            damage.append(f'checkpoint {step} is damaged ({error})')
            continue
        for line in damage:
            print(f'lm: {words}: {line}; using step {step}', file=sys.stderr)
        return step, found
    raise UserError(f'{words}: {damage[0] if damage else "has no checkpoint yet"}')
