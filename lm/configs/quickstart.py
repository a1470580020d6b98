"""A first run: a 1M-parameter LLaMA on the English of the user's own Python.

Command: bash launch/quickstart.sh
Hardware: 2 CPU cores, no accelerator, no network.
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


def config(preset: str = '') -> Config:
    """The one setting there is; `preset` must be empty."""
    return Config(
        model=ModelConfig(
            name='llama', num_layers=4, d_model=128, num_heads=4, vocab_size=2048,
            max_positions=128, scan_layers=False,
        ),
        data=DataConfig(source='stdlib', tokenizer='bpe'),
        optim=OptimConfig(peak_lr=3e-3, warmup_steps=50),
        train=TrainConfig(steps=300, batch_size=16, seq_len=128),
        eval=EvalConfig(every_steps=100),
        checkpoint=CheckpointConfig(every_steps=100),
    )  # fmt: skip
