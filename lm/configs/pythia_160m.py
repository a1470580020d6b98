"""Pythia 160M: Biderman et al. 2023, table 1; the recipe's figures from its released configuration.

`lm train --config=pythia_160m --config.data.source=FILES --workdir=DIR`, on accelerators: 300
billion tokens. The vocabulary is that of the released weights, which is padded.
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
            name='gpt_neox',
            num_layers=12,
            d_model=768,
            num_heads=12,
            vocab_size=50_304,
            max_positions=2048,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=6e-4, weight_decay=0.01, warmup_steps=1430),
        train=TrainConfig(steps=143_000, batch_size=1024, seq_len=2048, log_every_steps=100),
        eval=EvalConfig(every_steps=1000, batches=32),
        checkpoint=CheckpointConfig(every_steps=1000),
    )
