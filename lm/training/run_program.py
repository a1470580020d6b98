"""The program of a run, which knows its rows."""

import jax

from lm.attention.kernel import worth_telling
from lm.config import Config
from lm.data.mixture import Mixture
from lm.objectives._objective import build_objective
from lm.training.evaluate import mixed_rows
from lm.training.program import Program, build_program


def run_program(config: Config, mixture: Mixture) -> Program:
    """The program, told how many segments the run's rows have where that chooses a kernel.

    Args:
      config: resolved, with the steps that are taken.
      mixture: the text.

    Raises:
      UserError: as `build_program`.
    """
    vocabulary, segments = mixture.tokenizer.vocabulary, None
    if jax.default_backend() == 'gpu':
        rows = mixed_rows(build_objective(config, vocabulary), mixture, config.train.seed)
        most = rows.most_segments(0, config.train.steps * config.train.batch_size)
        # Behind several segments there may be padding, which counts as one.
        segments = worth_telling(most if most == 1 else most + 1, config.train.seq_len)
    return build_program(config, vocabulary, segments=segments)
