"""A first run: a 1M-parameter LLaMA on the English of the user's own Python.

Command: bash launch/quickstart.sh
Hardware: 2 CPU cores, no accelerator, no network. Time and result: docs/LOG.md.
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
    require(not preset, f'config=quickstart:{preset}: has no presets')
    return Config(
        model=ModelConfig(
            name='llama', num_layers=4, d_model=128, num_heads=4, vocab_size=2048,
            max_positions=128, scan_layers=False, options=Options(tie_embeddings=True),
        ),
        data=DataConfig(source='stdlib', tokenizer='bpe'),
        optim=OptimConfig(peak_lr=2e-3, warmup_steps=50, options=Adam(b2=0.98)),
        train=TrainConfig(steps=800, batch_size=8, seq_len=128, log_every_steps=20),
        eval=EvalConfig(every_steps=400, sample_tokens=60),
        checkpoint=CheckpointConfig(every_steps=400),
    )  # fmt: skip
