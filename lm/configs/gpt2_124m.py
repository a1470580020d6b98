"""GPT-2 small: Radford et al. 2019, table 2; the paper's 117M are 124M, counted right.

`lm train --config=gpt2_124m --config.data.source=FILES --workdir=DIR`, on accelerators. The paper
gives no recipe; these are the figures with which public reproductions train it.
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
            name='gpt2',
            num_layers=12,
            d_model=768,
            num_heads=12,
            vocab_size=50_257,
            max_positions=1024,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=6e-4, warmup_steps=2000),
        train=TrainConfig(steps=600_000, batch_size=480, seq_len=1024, log_every_steps=100),
        eval=EvalConfig(every_steps=5000, batches=32),
        checkpoint=CheckpointConfig(every_steps=5000),
    )
