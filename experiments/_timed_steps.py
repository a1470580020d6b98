"""The step of `lm train` on random tokens, compiled and timed: what experiments share."""

import os
import time
from typing import Any

from lm.config import Config, require
from lm.resolution import override


def emulate(devices: int) -> None:
    """Asks XLA's CPU client for so many devices; to be called before jax is imported."""
    flag = f'--xla_force_host_platform_device_count={devices}'
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()


def with_vocabulary(config: Config, size: int) -> Config:
    """The config with so many tokens, where it leaves them open."""
    require(size > 105, f'vocab_size={size}: give more than the 105 special ids')
    return config if config.model.vocab_size else override(config, {'model.vocab_size': size})


class TimedSteps:
    """A run's steps, one at a time, on random tokens that are the same for every mesh.

    Attributes:
      compiled: the step.
      state: what it is at, on its devices.
      params: numbers in the model's arrays.
      row_tokens: positions of a row, of both sides where there are two.
      seconds, losses: of each step taken.
    """

    def __init__(self, config: Config) -> None:
        """Compiles the step of `config` and makes `train.steps` batches.

        Raises:
          UserError: what the mesh, the objective or the schedule refuses.
        """
        import numpy as np

        from lm.batch import Row, stack
        from lm.objectives._objective import Objective
        from lm.training.program import build_program, resolve_policy
        from lm.vocabulary import Vocabulary

        vocabulary = Vocabulary(config.model.tokens, 0, 1, 2, 3, 4, tuple(range(5, 105)), ())
        program = build_program(resolve_policy(config), vocabulary)
        objective: Objective = program.objective
        rng = np.random.default_rng(0)

        def row() -> Row:
            size = objective.row_len
            tokens = rng.integers(105, config.model.tokens, size).astype(np.int32)
            return Row(tokens, np.ones(size, np.int32), np.arange(size, dtype=np.int32), tokens * 0)

        batches = [
            stack([objective.example(row(), rng) for _ in range(config.train.batch_size)])
            for _ in range(config.train.steps)
        ]
        lowered = program.step.lower(program.abstract_state, program.abstract_batch(row()))
        self.compiled = lowered.compile()
        self.state: Any = program.init_state()
        self.params = sum(int(np.prod(x.shape)) for x in program.functional.shapes.values())
        sides = (batches[0].tokens, batches[0].decoder_tokens)
        self.row_tokens = sum(side.shape[1] for side in sides if side is not None)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._batches, self._place = iter(batches), program.layout.place

    def step(self) -> None:
        """Takes the next step and waits for it; the transfer of its batch is not timed."""
        import jax

        from lm.training.step import Metrics

        placed = self._place(next(self._batches))
        begin = time.perf_counter()
        self.state, metrics = self.compiled(self.state, placed)
        self.losses.append(Metrics.unpacked(metrics).loss)
        jax.block_until_ready(self.state)
        self.seconds.append(time.perf_counter() - begin)
