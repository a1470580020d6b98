"""A small BERT on the English of this Python: `lm train --config=bert_tiny --workdir=DIR`.

For 2 CPU cores; 1.1 million parameters.
"""

from lm.config import (
    Config,
    EvalConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
)
from lm.models.architectures.bert import Options


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='bert',
            num_layers=4,
            d_model=128,
            num_heads=4,
            vocab_size=2048,
            max_positions=128,
            scan_layers=False,
            # The paper's 0.02 is for width 768: at 128 attention begins uniform and stays so.
            options=Options(init_std=0.06),
        ),
        objective=ObjectiveConfig(name='mlm'),
        optim=OptimConfig(peak_lr=1e-3, eps=1e-6, weight_decay=0.01, warmup_steps=100),
        train=TrainConfig(steps=2000, batch_size=32, seq_len=128),
        eval=EvalConfig(every_steps=500),
    )
