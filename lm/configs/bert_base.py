"""BERT base: Devlin et al. 2018, section 3; the recipe's figures from its appendix A.2.

`lm train --config=bert_base --config.data.source=FILES --workdir=DIR`, on accelerators. The
paper trains 90 % of its steps at 128 tokens; here all are at 512.
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
from lm.optim.optimizers.adamw import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='bert',
            num_layers=12,
            d_model=768,
            num_heads=12,
            vocab_size=30_522,
            max_positions=512,
            dropout=0.1,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='mlm'),
        optim=OptimConfig(
            peak_lr=1e-4,
            eps=1e-6,
            weight_decay=0.01,
            warmup_steps=10_000,
            final_lr_fraction=0.0,
            options=Options(b2=0.999),
        ),
        train=TrainConfig(steps=1_000_000, batch_size=256, seq_len=512, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
