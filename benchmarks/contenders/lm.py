"""`lm`: the step of `lm train`.

The logits of places that have no target are not computed: of a BERT's places a seventh are, where
`transformers` computes them all.
"""

from typing import Any

from benchmarks._cases import Case, lm_config
from benchmarks._lm_steps import LmSteps
from benchmarks._machine import jax_peak, versions
from lm.config import require
from lm.training.banner import device_words, state_dtypes


class _Steps(LmSteps):
    @property
    def facts(self) -> dict[str, Any]:
        config = self.program.config
        return {
            'device': device_words(),
            'dtypes': state_dtypes(self.program),
            'attention': self.program.attention_words,
            'scan_layers': config.model.scan_layers,
            'remat': config.model.remat,
            'compile_seconds': self.compile_seconds,
            **jax_peak(),
            'versions': versions('jax', 'jaxlib', 'flax', 'optax'),
        }


def build(case: Case, words: list[str]) -> LmSteps:
    """Its steps.

    Raises:
      UserError: what a run of such a config is refused for.
    """
    steps = _Steps(lm_config(case, words))
    if case.decoder_len is not None:
        made = steps.objective.target_len
        require(
            made == case.decoder_len,
            f'span corruption of {case.seq_len} tokens has {made} targets, not {case.decoder_len}',
        )
    return steps
