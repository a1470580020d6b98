"""TinyLlama 1.1B: Zhang et al. 2024, tables 1 and 2 (3 trillion tokens).

`lm train --config=tinyllama_1b --config.data.source=FILES --workdir=DIR`, on accelerators.
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
            name='llama',
            num_layers=22,
            d_model=2048,
            num_heads=32,
            num_kv_heads=4,
            d_ff=5632,
            vocab_size=32_000,
            max_positions=2048,
            remat='dots',
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=4e-4, warmup_steps=2000),
        train=TrainConfig(steps=1_430_000, batch_size=1024, seq_len=2048, log_every_steps=100),
        eval=EvalConfig(every_steps=5000, batches=32),
        checkpoint=CheckpointConfig(every_steps=5000),
    )
