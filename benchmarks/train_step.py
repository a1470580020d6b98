"""The step of `lm train`, any config, on random tokens: speed, memory, compilation.

Command: python -m benchmarks.train_step --config=NAME [--config.FIELD=VALUE ...] [--steps=20]
    [--repeats=3] [--documents_per_row=1] [--json]
Hardware: whatever devices are there.

The step is the one that a run compiles, its state donated, each batch placed from the host's
memory, metrics read one step late; no text is read. Rows are one segment, or with
`--documents_per_row=N` packed of N, on whichever kernel such rows get in a run.

Tokens of a step are rows x `train.seq_len`, the encoder's where there are two sides (then
sequences a second are told too). Two rules of MFU: `nanogpt`, (6 N + 12 L D T) FLOPs a token with N
all parameters but those of positions, for models of one stack; and `exact`, every matrix product
with attention over all key positions, as in summary.json. Over the devices' dense peak in the dtype
computed in; null where that is not known. The first step is counted from this program's first line.
"""

import statistics
import time

BEGAN = time.perf_counter()  # before anything heavy is imported

import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402

from lm.config import Config, require  # noqa: E402
from lm.flags import Flags  # noqa: E402
from lm.resolution import override  # noqa: E402

from ._command import print_table, run_command  # noqa: E402

RULE_NANOGPT = '(6 N + 12 L D T) tokens/s / peak, N all parameters but those of positions'


def main() -> int:
    """The command; returns its exit status."""
    return run_command('train_step', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define_config('llama_tiny')
    flags.define('steps', int, 20, 'steps that are timed together')
    flags.define('repeats', int, 3, 'times that so many are timed')
    flags.define('documents_per_row', int, 1, 'segments that rows are packed of')
    flags.define('vocab_size', int, 32_000, 'tokens, where the config leaves them to a tokenizer')
    flags.define('json', bool, False, 'no table, only the JSON')


def _run(flags: Flags) -> dict[str, Any]:
    config = flags.config()
    for name in ('steps', 'repeats', 'vocab_size'):
        require(flags[name] >= 1, f'--{name}={flags[name]}: must be at least 1')
    if config.model.vocab_size is None:
        config = override(config, {'model.vocab_size': flags['vocab_size']})
    found = measure(config, flags['steps'], flags['repeats'], flags['documents_per_row'])
    found = {'config': flags['config'], **found}
    if not flags['json']:
        _print(found)
    return found


def measure(config: Config, steps: int, repeats: int, documents_per_row: int) -> dict[str, Any]:
    """Everything that is told of a config's step.

    Raises:
      UserError: what the mesh, the objective or the schedule refuses.
    """
    import jax

    from lm.training.banner import device_words, state_dtypes

    from ._lm_steps import LmSteps
    from ._machine import cores, jax_peak, versions

    taken = LmSteps(config, documents_per_row)
    taken.compile()
    taken.take(1)
    to_first = time.perf_counter() - BEGAN
    taken.take(2)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        taken.take(steps)
        seconds.append((time.perf_counter() - begin) / steps)
    program = taken.program
    step = statistics.median(seconds)
    return {
        'model': program.config.model.name,
        'objective': program.config.objective.name,
        'rows': program.config.train.batch_size,
        'seq_len': program.config.train.seq_len,
        'documents_per_row': documents_per_row,
        'attention_kernel': program.attention_words,
        **_rates(taken, step),
        'step_ms': 1e3 * step,
        'step_ms_of_repeats': [1e3 * s for s in seconds],
        'steps': steps,
        **jax_peak(),
        'compile_seconds': taken.compile_seconds,
        'compilation_cache': os.environ.get('JAX_COMPILATION_CACHE_DIR'),
        'seconds_to_first_step': to_first,
        'loss': taken.loss,
        'policy': program.policy.name,
        'dtypes': state_dtypes(program),
        'scan_layers': program.config.model.scan_layers,
        'remat': program.config.model.remat,
        'device': device_words(),
        'devices': jax.device_count(),
        'cores': cores(),
        'versions': versions('jax', 'jaxlib', 'flax', 'optax'),
    }


def _rates(taken: Any, step_seconds: float) -> dict[str, Any]:
    """Tokens, sequences and utilisation at so many seconds a step."""

    from lm.planning.counts import count_parameters, parameter_sizes
    from lm.planning.devices import peak_flops
    from lm.planning.flops import RULE_EXACT, train_flops_exact

    program = taken.program
    config, model = program.config, program.functional
    rows, length = config.train.batch_size, config.train.seq_len
    two_sides = model.family == 'encoder_decoder'
    decoder_len = taken.objective.target_len if two_sides else None
    devices = program.layout.mesh.devices
    each = peak_flops(devices.flat[0].device_kind, program.policy.peak)
    peak = each and each * devices.size
    count = count_parameters(model)
    exact = train_flops_exact(model, length, decoder_len).row * rows / step_seconds
    found = {
        'params': count.total,
        'tokens_per_second': rows * length / step_seconds,
        'sequences_per_second': rows / step_seconds,
        'decoder_len': decoder_len,
        'flops_per_second': exact,
        'peak_flops': peak,
        'mfu_exact': exact / peak if peak else None,
        'mfu_exact_rule': RULE_EXACT['full'],
        'mfu_nanogpt': None,
        'mfu_nanogpt_rule': RULE_NANOGPT,
    }
    if not two_sides:
        sizes, dims = parameter_sizes(model), model.dims
        counted = sum(size for path, size in sizes.items() if 'P' not in dims[path])
        width = config.model.num_heads * config.model.head_width
        a_token = 6 * counted + 12 * config.model.num_layers * width * length
        rate = a_token * rows * length / step_seconds
        found |= {'mfu_nanogpt': rate / peak if peak else None, 'nanogpt_flops_per_second': rate}
    return found


def _print(found: dict[str, Any]) -> None:
    def share(value: float | None) -> str:
        return 'peak not known' if value is None else f'{value:.3f}'

    spread = found['step_ms_of_repeats']
    rows = [
        ('tokens/s', f'{found["tokens_per_second"]:,.0f}'),
        ('sequences/s', f'{found["sequences_per_second"]:,.1f}'),
        ('ms a step', f'{found["step_ms"]:.2f} ({min(spread):.2f} to {max(spread):.2f})'),
        ('TFLOP/s, exact', f'{found["flops_per_second"] / 1e12:,.2f}'),
        ('MFU, exact', share(found['mfu_exact'])),
        ('MFU, nanoGPT', share(found['mfu_nanogpt']) if not found['decoder_len'] else 'two sides'),
        ('peak GB of ' + found['peak_of'], f'{found["peak_bytes"] / 1e9:.2f}'),
        ('compile s', f'{found["compile_seconds"]:.1f}'),
        ('s to the first step', f'{found["seconds_to_first_step"]:.1f}'),
        ('attention', found['attention_kernel']),
        ('device', found['device']),
    ]
    heads = (f'{found["model"]} {found["objective"]}', f'{found["rows"]} x {found["seq_len"]}')
    print_table(heads, rows)
    print(f'MFU, exact: {found["mfu_exact_rule"]}', file=sys.stderr)
    print(f'MFU, nanoGPT: {found["mfu_nanogpt_rule"]}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
