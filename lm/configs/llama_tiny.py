"""A small LLaMA on the English of this Python: `lm train --config=llama_tiny --workdir=DIR`.

For 2 CPU cores; 1.3 million parameters.
"""

from lm.config import Config, EvalConfig, ModelConfig, ObjectiveConfig, OptimConfig, TrainConfig


def config(preset: str = '') -> Config:
    """The run; it has no presets."""
    del preset
    return Config(
        model=ModelConfig(
            name='llama',
            num_layers=4,
            d_model=128,
            num_heads=4,
            num_kv_heads=2,
            vocab_size=2048,
            max_positions=128,
            scan_layers=False,
        ),
        objective=ObjectiveConfig(name='clm'),
        optim=OptimConfig(peak_lr=2e-3, warmup_steps=100),
        train=TrainConfig(steps=1000, batch_size=32, seq_len=128),
        eval=EvalConfig(every_steps=500),
    )
