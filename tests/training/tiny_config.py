"""A run of seconds for each family; the preset is the architecture's name."""

from lm.config import (
    CheckpointConfig,
    Config,
    DataConfig,
    EvalConfig,
    MeshConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    TrainConfig,
)
from lm.models.architectures import modernbert

OBJECTIVES = {
    **dict.fromkeys(('llama', 'gpt2', 'bloom', 'gpt_neox', 'lstm', 'gru'), 'clm'),
    **dict.fromkeys(('bert', 'roberta', 'modernbert'), 'mlm'),
    **dict.fromkeys(('t5', 'bart', 'lstm_seq2seq', 'gru_seq2seq'), 'span_corruption'),
}


def config(preset: str = '') -> Config:
    name = preset or 'llama'
    return Config(
        model=ModelConfig(
            name=name,
            num_layers=2,
            d_model=32,
            num_heads=2,
            d_ff=None if name.startswith(('lstm', 'gru')) else 48,
            max_positions=32,
            vocab_multiple=16,
            dropout=0.1 if name == 'gpt2' else 0.0,
            scan_layers=False,
            options=modernbert.Options(local_reach=3) if name == 'modernbert' else None,
        ),
        objective=ObjectiveConfig(name=OBJECTIVES[name]),
        data=DataConfig(tokenizer='char'),
        optim=OptimConfig(peak_lr=3e-3, warmup_steps=5, schedule='constant'),
        train=TrainConfig(steps=24 if preset else 1, batch_size=8, seq_len=32, log_every_steps=1),
        eval=EvalConfig(every_steps=10, batches=2, sample_tokens=0),
        checkpoint=CheckpointConfig(every_steps=8),
        mesh=MeshConfig(devices=1),
    )
