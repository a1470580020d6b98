"""How long the rows of a run are, and whether axes divide them and its model. No jax."""

from dataclasses import replace

from lm import registry
from lm.attention.kernel import Use
from lm.config import Config, ModelConfig, require
from lm.models.uses import head_width, uses
from lm.objectives._objective import build_objective, most_asked
from lm.planning.axes import Axes
from lm.planning.parameters import ModelShape, model_shape
from lm.resolution import resolve
from lm.vocabulary import placeholder

SPLIT_OVER_TENSOR = {
    'H': 'model.num_heads',
    'G': 'model.num_kv_heads',
    'F': 'model.d_ff',
    'V': 'the padded vocabulary',
}
"""Dimensions that `tensor` splits, and what sets their sizes."""


def side_lengths(config: Config, family: str) -> dict[str, int]:
    """Positions of each side of a row: the decoder's length is the objective's.

    Raises:
      UserError: the objective refuses the sequence length.
    """
    if family != 'encoder_decoder':
        return {family: config.train.seq_len}
    vocabulary = placeholder(config.model.tokens)
    objective = build_objective(config, vocabulary)
    return {'encoder': config.train.seq_len, 'decoder': objective.target_len}


def attention_uses(config: Config, family: str) -> tuple[Use, ...]:
    """How the model attends to the rows of a run; nothing of an architecture without a `spec`."""
    member = registry.lookup('models', config.model.name, 'model.name')
    if not hasattr(member, 'spec'):
        return ()
    objective = registry.lookup('objectives', config.objective.name, 'objective.name')
    prefix = family in getattr(objective, 'PREFIX_FAMILIES', ())
    return uses(model_shape(config.model).spec, side_lengths(config, family), prefix=prefix)


def attention_width(config: ModelConfig) -> int:
    """Width of the heads that attend, as kernels see it."""
    member = registry.lookup('models', config.name, 'model.name')
    return head_width(model_shape(config).spec if hasattr(member, 'spec') else None, config)


def num_asked(config: Config) -> int | None:
    """Places of a row whose logits a step computes; None: all.

    Raises:
      UserError: the objective refuses the sequence length.
    """
    objective = build_objective(config, placeholder(config.model.tokens))
    most = most_asked(objective)
    return most if most < objective.target_len else None


def tokens_per_row(config: Config) -> int:
    """Raw tokens that a row adds to those read; what it repeats of the row before is not counted.

    Raises:
      UserError: the objective refuses the sequence length.
    """
    objective = build_objective(config, placeholder(config.model.tokens))
    return objective.row_len - objective.overlap


def require_division(
    config: Config, model: ModelShape, lengths: dict[str, int], axes: Axes
) -> None:
    """Refuses axes that cut a row, a head or a batch in unequal parts.

    Raises:
      UserError: the first that does.
    """
    train = config.train
    rows = train.batch_size // train.microbatches
    require(
        rows % axes.rows == 0,
        f'train.batch_size={train.batch_size}: {rows} rows a microbatch do not split evenly over '
        f'{axes.rows} devices (replica x fsdp); make it a multiple of '
        f'{axes.rows * train.microbatches}, or use tensor or seq',
    )
    resolve(replace(config, mesh=replace(config.mesh, tensor=axes.tensor, seq=axes.seq)))
    sizes = {
        letter: size
        for path, letters in model.dims.items()
        for letter, size in zip(letters, model.shapes[path].shape, strict=True)
    }
    for letter, name in SPLIT_OVER_TENSOR.items():
        size = sizes.get(letter, 0)
        require(size % axes.tensor == 0, f'tensor={axes.tensor}: does not divide {name}={size}')
    for side, length in lengths.items():
        require(
            length % axes.seq == 0,
            f"seq={axes.seq}: does not divide the {side}'s {length} positions",
        )
