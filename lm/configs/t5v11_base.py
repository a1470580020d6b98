"""T5 1.1 base: Raffel et al. 2020, section 3.1, in the sizes of its authors' release 1.1.

`lm train --config=t5v11_base --config.data.source=FILES --workdir=DIR`, on accelerators. The
release trains with Adafactor for a million steps of 2048 rows, without dropout; here AdamW.
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
            name='t5',
            num_layers=12,
            d_model=768,
            num_heads=12,
            d_ff=2048,
            vocab_size=32_128,
            max_positions=512,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='span_corruption'),
        optim=OptimConfig(peak_lr=1e-3, weight_decay=0.01, warmup_steps=10_000),
        train=TrainConfig(steps=1_000_000, batch_size=2048, seq_len=512, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
