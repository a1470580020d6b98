"""LLaMA 2 70B: Touvron et al. 2023 (b), section 2.2 (4 million tokens a step, 2 trillion in all).

`lm train --config=llama_70b --config.data.source=FILES --workdir=DIR`, on a thousand accelerators.
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
            num_layers=80,
            d_model=8192,
            num_heads=64,
            num_kv_heads=8,
            d_ff=28_672,
            vocab_size=32_000,
            max_positions=4096,
            remat='full',
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=1.5e-4, warmup_steps=2000),
        train=TrainConfig(steps=480_000, batch_size=1024, seq_len=4096, log_every_steps=100),
        eval=EvalConfig(every_steps=5000, batches=32),
        checkpoint=CheckpointConfig(every_steps=5000),
    )
