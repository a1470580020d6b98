"""RoBERTa base: Liu et al. 2019, section 4; the recipe's figures from its appendix D, table 9.

`lm train --config=roberta_base --config.data.source=FILES --workdir=DIR`, on accelerators. The
vocabulary is the released one, whose padding id is 1: `--config.data.tokenizer` takes its
`tokenizer.json`. With a tokenizer trained here, set `--config.model.options.position_offset=1`.
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
from lm.models.architectures import roberta
from lm.optim.optimizers.adamw import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='roberta',
            num_layers=12,
            d_model=768,
            num_heads=12,
            vocab_size=50_265,
            max_positions=512,
            dropout=0.1,
            scan_layers=False,
            options=roberta.Options(position_offset=2),
        ),
        objective=ObjectiveConfig(name='mlm'),
        optim=OptimConfig(
            peak_lr=6e-4,
            eps=1e-6,
            weight_decay=0.01,
            warmup_steps=24_000,
            final_lr_fraction=0.0,
            options=Options(b2=0.98),
        ),
        train=TrainConfig(steps=500_000, batch_size=8192, seq_len=512, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
