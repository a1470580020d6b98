"""LLaMA 7B: Touvron et al. 2023, tables 1 and 2 (4 million tokens a step, 1 trillion in all).

`lm train --config=llama_7b --config.data.source=FILES --workdir=DIR`, on many accelerators.
"""

from lm.config import (
    CheckpointConfig,
    Config,
    EvalConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
)
from lm.models.architectures.llama import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='llama',
            num_layers=32,
            d_model=4096,
            num_heads=32,
            d_ff=11_008,
            vocab_size=32_000,
            max_positions=2048,
            remat='full',
            options=Options(norm_eps=1e-6),
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=3e-4, warmup_steps=2000),
        train=TrainConfig(steps=240_000, batch_size=2048, seq_len=2048, log_every_steps=100),
        eval=EvalConfig(every_steps=5000, batches=32),
        checkpoint=CheckpointConfig(every_steps=5000),
    )
