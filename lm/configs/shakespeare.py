"""Tiny Shakespeare on two CPU cores: a 2M-parameter LLaMA over a small unigram vocabulary.

Command: lm train --config=shakespeare --config.data.source=tinyshakespeare.txt --workdir=DIR
Without --config.data.source the text is TFDS's own `tiny_shakespeare` (needs the extra `tfds`).
"""

from lm.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from lm.fields import require
from lm.models.architectures.llama import Options
from lm.optim.optimizers.adamw import Options as Adam


def config(preset: str = '') -> Config:
    """The one setting there is; `preset` must be empty."""
    require(not preset, f'config=shakespeare:{preset}: has no presets')
    return Config(
        model=ModelConfig(
            name='llama', num_layers=4, d_model=192, num_heads=4, d_ff=512, vocab_size=1024,
            max_positions=128, scan_layers=False, options=Options(tie_embeddings=True),
        ),
        data=DataConfig(source='tfds:tiny_shakespeare', tokenizer='unigram'),
        optim=OptimConfig(
            peak_lr=1.5e-3, warmup_steps=50, final_lr_fraction=0.05, options=Adam(b2=0.98)
        ),
        train=TrainConfig(steps=3200, batch_size=4, seq_len=128, log_every_steps=50),
        eval=EvalConfig(every_steps=1000, batches=64, sample_tokens=100),
        checkpoint=CheckpointConfig(every_steps=1000),
    )  # fmt: skip
