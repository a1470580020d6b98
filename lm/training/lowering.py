"""The step of a run that does not exist: lowered for a compiler, nothing of it ever made."""

from collections.abc import Sequence

import jax
import numpy as np

from lm.batch import Row
from lm.config import Config
from lm.planning.budget import budget_steps, with_steps
from lm.resolution import resolve
from lm.training.program import build_program, resolve_policy
from lm.vocabulary import Vocabulary, placeholder


def lower_step(config: Config, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
    """The step that `lm train` would run of `config` on `devices`, ready to be compiled.

    Neither text nor tokenizer is read: the special ids are placeholders, on which no shape depends.

    Args:
      config: with `model.vocab_size` set.
      devices: those of the mesh; they may be described ones, of a machine that is not there.

    Raises:
      UserError: the vocabulary's size is not known, or the mesh, the schedule or the objective
        refuses the config.
    """
    vocabulary = placeholder(config.model.tokens)
    config = with_steps(config, budget_steps(config))
    resolved = resolve_policy(resolve(config), devices[0].platform)
    program = build_program(resolved, vocabulary, devices)
    row = _row(vocabulary, program.objective.row_len)
    return program.step.lower(program.abstract_state, program.abstract_batch(row))


def _row(vocabulary: Vocabulary, length: int) -> Row:
    """A row of one document."""
    tokens = np.full(length, vocabulary.size - 1, np.int32)
    places = np.arange(length, dtype=np.int32)
    return Row(tokens, np.ones(length, np.int32), places, np.zeros(length, np.int32))
