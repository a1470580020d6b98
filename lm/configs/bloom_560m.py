"""BLOOM 560M: Scao et al. 2022, table 3, whose recipe it is: 341 billion tokens.

`lm train --config=bloom_560m --config.data.source=FILES --workdir=DIR`, on accelerators. Nearly
half of its parameters are the embedding of 250,880 tokens.
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


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='bloom',
            num_layers=24,
            d_model=1024,
            num_heads=16,
            vocab_size=250_880,
            max_positions=2048,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=3e-4, warmup_steps=715, final_lr_fraction=1 / 30),
        train=TrainConfig(steps=650_000, batch_size=256, seq_len=2048, log_every_steps=100),
        eval=EvalConfig(every_steps=5000, batches=32),
        checkpoint=CheckpointConfig(every_steps=5000),
    )
