"""ModernBERT base: Warner et al. 2024, section 2 and appendix A; 1.7 trillion tokens.

`lm train --config=modernbert_base --config.data.source=FILES --workdir=DIR`, on accelerators. This
is the first of the paper's three phases, in rows of 1024; there all layers turn by the base of the
local ones (`--config.model.options.rope_theta=10000`), and the released one comes with rows of
8192, for 300 billion tokens more. The paper's StableAdamW is AdamW here, its batches do not begin
smaller, and its schedule's decay is part of the third phase.
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
from lm.objectives import mlm
from lm.optim.optimizers.adamw import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='modernbert',
            num_layers=22,
            d_model=768,
            num_heads=12,
            d_ff=1152,
            vocab_size=50_368,
            max_positions=8192,
        ),
        objective=ObjectiveConfig(name='mlm', options=mlm.Options(mask_rate=0.3)),
        optim=OptimConfig(
            peak_lr=8e-4,
            eps=1e-6,
            weight_decay=1e-5,
            clip_norm=None,
            schedule='constant',
            warmup_steps=636,
            options=Options(b1=0.9, b2=0.98),
        ),
        train=TrainConfig(steps=364_000, batch_size=4608, seq_len=1024, log_every_steps=100),
        eval=EvalConfig(every_steps=10_000, batches=32),
        checkpoint=CheckpointConfig(every_steps=10_000),
    )
