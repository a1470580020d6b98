"""BART base: Lewis et al. 2020, section 2.1, in the sizes of its authors' release.

`lm train --config=bart_base --config.data.source=FILES --workdir=DIR`, on accelerators. It
restores corrupted documents whole. The paper gives no recipe for this size: of the large one,
500,000 steps of 8000 rows (section 5.1).
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
            name='bart',
            num_layers=6,
            d_model=768,
            num_heads=12,
            vocab_size=50_265,
            max_positions=1024,
            dropout=0.1,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='denoising'),
        optim=OptimConfig(peak_lr=4e-4, eps=1e-6, weight_decay=0.01, warmup_steps=10_000),
        train=TrainConfig(steps=500_000, batch_size=8000, seq_len=512, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
