"""nanoGPT's character recipe for Tiny Shakespeare, for a CPU; preset `gpu`: the one for a GPU.

Command: lm train --config=nanogpt_char --config.data.source=tinyshakespeare.txt --workdir=DIR
Karpathy 2022, `config/train_shakespeare_char.py` and the README's flags for a CPU. The published
validation losses, in nats a character, are 1.88 and (gpu) 1.47; they hold for the text as one
file, whose last tenth is held out. Without --config.data.source the text is TFDS's own
`tiny_shakespeare` (needs the extra `tfds`), which is split otherwise.

What differs: our GPT-2 has biases and the tanh GELU, and drops no attention probabilities.
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
from lm.optim.optimizers.adamw import Options as Adam


def config(preset: str = '') -> Config:
    """The recipe for a CPU, or with `preset` gpu the one for a GPU."""
    require(preset in ('', 'gpu'), f'config=nanogpt_char:{preset}: must be gpu, or nothing')
    model, train = _gpu() if preset else _cpu()
    return Config(
        model=model,
        data=DataConfig(source='tfds:tiny_shakespeare', tokenizer='char', validation_fraction=0.1),
        optim=OptimConfig(
            peak_lr=1e-3, warmup_steps=100, final_lr_fraction=0.1, weight_decay=0.1, clip_norm=1.0,
            options=Adam(b1=0.9, b2=0.99),
        ),
        train=train,
        eval=EvalConfig(every_steps=500, batches=20, sample_tokens=100),
        checkpoint=CheckpointConfig(every_steps=1000),
    )  # fmt: skip


def _cpu() -> tuple[ModelConfig, TrainConfig]:
    return (
        ModelConfig(
            name='gpt2', num_layers=4, d_model=128, num_heads=4, max_positions=64, dropout=0.0,
            scan_layers=False,
        ),
        TrainConfig(steps=2000, batch_size=12, seq_len=64, log_every_steps=50),
    )  # fmt: skip


def _gpu() -> tuple[ModelConfig, TrainConfig]:
    return (
        ModelConfig(
            name='gpt2', num_layers=6, d_model=384, num_heads=6, max_positions=256, dropout=0.2,
            scan_layers=False,
        ),
        TrainConfig(steps=5000, batch_size=64, seq_len=256, log_every_steps=50),
    )  # fmt: skip
