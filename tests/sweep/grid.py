"""An experiment of runs of seconds, as a user writes one."""

import dataclasses

import lm
from lm.config import Config, setting


@dataclasses.dataclass(frozen=True)
class Setting:
    source: str = setting('', 'the text')
    cache: str = setting('', 'where it is prepared')
    rates: tuple[float, ...] = setting((1e-3, 3e-3), 'learning rates')
    steps: int = setting(6, 'of each run')


def configs(study: Setting) -> dict[str, Config]:
    runs = {}
    for rate in study.rates:
        runs[f'rate {rate:g}'] = lm.load_config(
            'llama_tiny',
            **{
                'model.num_layers': 1,
                'model.d_model': 16,
                'model.num_heads': 1,
                'model.num_kv_heads': None,
                'model.vocab_size': None,
                'model.max_positions': 16,
                'data.source': study.source,
                'data.tokenizer': 'char',
                'data.cache_dir': study.cache,
                'optim.peak_lr': rate,
                'optim.warmup_steps': 1,
                'train.steps': study.steps,
                'train.batch_size': 4,
                'train.seq_len': 16,
                'train.log_every_steps': 1,
                'eval.sample_tokens': 0,
                'checkpoint.every_steps': 10,
                'mesh.devices': 1,
            },
        )
    return runs
