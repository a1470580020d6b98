"""T5 1.0 base: Raffel et al. 2020, section 3.1; the pre-training of section 3.1.2.

`lm train --config=t5_base --config.data.source=FILES --workdir=DIR`, on accelerators. The paper
trains with Adafactor, for 2^19 steps of 128 rows; here AdamW.
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
from lm.models.architectures.t5 import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='t5',
            num_layers=12,
            d_model=768,
            num_heads=12,
            d_ff=3072,
            vocab_size=32_128,
            max_positions=512,
            dropout=0.1,
            scan_layers=False,
            options=Options(gated=False, tie_embeddings=True),
        ),
        objective=ObjectiveConfig(name='span_corruption'),
        optim=OptimConfig(peak_lr=1e-3, weight_decay=0.01, warmup_steps=10_000),
        train=TrainConfig(steps=2**19, batch_size=128, seq_len=512, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
