"""How fast tokens come: greedy decoding beside `transformers`, and beside what memory allows.

Command: python -m benchmarks.generate [--size=gpt2_124m|llama_20m] [--prompt_tokens=128]
    [--new_tokens=128] [--batch_size=1] [--rounds=3] [--nocompiled]
Hardware: any; 2 CPU cores take two minutes at 124M.

Both decode the same random weights from the same prompts, in turn, in one process, each compiled
or warmed up by a first round that is not counted; `transformers` both as it comes and with its
static cache under `torch.compile` (which needs a C++ compiler; a minute more). Tokens a second are of new tokens, the prompt's
reading included. A step of one row cannot take less than to read every weight that multiplies once:
the bound is these bytes over the rate at which this machine sums a large array.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from lm.config import require
from lm.flags import Flags

from ._command import print_table, run_command
from ._machine import cores, versions

SIZES: dict[str, tuple[str, dict[str, int]]] = {
    'gpt2_124m': ('GPT2LMHeadModel', {}),
    'llama_20m': (
        'LlamaForCausalLM',
        {
            'vocab_size': 32_000, 'hidden_size': 256, 'num_hidden_layers': 4,
            'num_attention_heads': 4, 'num_key_value_heads': 4, 'intermediate_size': 1024,
        },
    ),
}  # fmt: skip
"""Classes of `transformers` and what of their configs is not the default."""
SUMMED_BYTES = 1 << 30


def main() -> int:
    """The command; returns its exit status."""
    return run_command('generate', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('size', Literal['gpt2_124m', 'llama_20m'], 'gpt2_124m', 'the model')
    flags.define('prompt_tokens', int, 128, 'of each prompt')
    flags.define('new_tokens', int, 128, 'added to each')
    flags.define('batch_size', int, 1, 'prompts at a time')
    flags.define('rounds', int, 3, 'that are counted; the median is told')
    flags.define('compiled', bool, True, 'compiled transformers too')


def _run(flags: Flags) -> dict[str, Any]:
    for name in ('prompt_tokens', 'new_tokens', 'batch_size', 'rounds'):
        require(flags[name] >= 1, f'--{name}={flags[name]}: must be at least 1')
    contenders, weight_bytes = _contenders(flags)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(flags['rounds'] + 1):
        for name, decode in contenders.items():
            begin = time.perf_counter()
            decode()
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    tokens = flags['batch_size'] * flags['new_tokens']
    rates = {name: tokens / statistics.median(times) for name, times in seconds.items()}
    bandwidth = _bandwidth()
    bound = flags['batch_size'] * bandwidth / weight_bytes
    rows = [
        (name, f'{rate:.1f}', f'{rate / rates["transformers"]:.2f}', f'{rate / bound:.2f}')
        for name, rate in rates.items()
    ]
    print_table(('', 'tokens/s', 'x transformers', 'of the bound'), rows)
    return {
        'tokens_per_second': rates,
        'bound': bound,
        'bytes_per_second': bandwidth,
        'weight_bytes': weight_bytes,
        'cores': cores(),
        'versions': versions('jax', 'torch', 'transformers'),
    }


def _contenders(flags: Flags) -> tuple[dict[str, Callable[[], Any]], int]:
    """What decodes, by name, and the bytes of the weights that multiply."""
    import jax
    import torch
    import transformers

    from lm.generation.decode import decode
    from lm.generation.sampling import Sampling
    from lm.planning.counts import count_parameters
    from lm.training.load import load_foreign

    kind, changes = SIZES[flags['size']]
    torch.manual_seed(0)
    config = getattr(transformers, kind).config_class(**changes)
    peer = getattr(transformers, kind)(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        model = load_foreign(folder)
    shape = (flags['batch_size'], flags['prompt_tokens'])
    prompts = np.random.default_rng(0).integers(0, config.vocab_size, shape)
    keys_B = jax.random.split(jax.random.key(0), len(prompts))

    def ours() -> Any:
        return decode(
            model.functional, model.params, list(prompts.astype(np.int32)),
            max_new_tokens=flags['new_tokens'], window=model.context, forbidden=[],
            ends=[model.config.model.padded_vocab_size], sampling=Sampling(0.0), keys_B=keys_B,
        )  # fmt: skip

    def theirs(**how: Any) -> Any:
        ids = torch.tensor(prompts)
        return peer.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
            max_new_tokens=flags['new_tokens'], min_new_tokens=flags['new_tokens'], **how,
        )  # fmt: skip

    contenders = {'lm': ours, 'transformers': theirs}
    if flags['compiled']:
        how = transformers.CompileConfig(mode='default', fullgraph=True, dynamic=False)
        how._compile_all_devices = True  # by itself it compiles on GPUs only
        contenders['compiled'] = partial(theirs, cache_implementation='static', compile_config=how)
    counted = count_parameters(model.functional)
    return contenders, 4 * (counted.matmul + counted.head)


def _bandwidth() -> float:
    """Bytes a second at which a large array is summed, the best of five times."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones(SUMMED_BYTES // 4)
    total = jax.jit(jnp.sum)
    total(x).block_until_ready()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        total(x).block_until_ready()
        times.append(time.perf_counter() - begin)
    return SUMMED_BYTES / min(times)


if __name__ == '__main__':
    sys.exit(main())
