"""Does a transformer use more of its context than an LSTM of the same cost? Loss by position.

Command: python -m experiments.loss_by_position --source=FILE --workdir=DIR [--plot=FILE]
Hardware: 2 CPU cores.
Time: three quarters of an hour on an idle machine.
Expected: the shape of Kaplan et al. 2020, section 3.2.1, figure 7: `gap` rises with the position,
    since the LSTM stops improving after some tens of tokens and the transformer goes on. At these
    budgets it stays below 0: the LSTM is ahead everywhere (docs/LOG.md).

A pair is a LLaMA of 2 layers and an LSTM of 3, as wide, which have about as many parameters,
trained for the same FLOPs, by the exact count, on rows of the same text and tokens. The smallest is
trained at several rates, and counts at the best; the larger ones at one rate, that may not be
theirs. Held-out documents are cut into windows as training rows are: the position in a window is
the number of its tokens that the model has seen, and what is hard about the text is the same at all
of them but the first few.
Standard errors are over windows; those of differences, over the windows' differences.

Each run is a folder of DIR; the same command goes on where it was stopped, and `--run` makes one.
"""

import itertools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

import lm
from lm.config import Config, require
from lm.flags import Flags
from lm.planning.budget import step_flops
from lm.planning.flops import train_flops_exact

from ._command import own_folder, run_command

SIZES: dict[str, tuple[int, float]] = {
    'd64': (64, 3e12),
    'd128': (128, 1.2e13),
    'd192': (192, 1.5e13),
}
"""Width and FLOPs of each pair."""

LAYERS = {'llama': 2, 'lstm': 3}
"""12 D^2 parameters a layer of the one, 8 D^2 of the other."""

RATES = {'llama': (1e-3, 3e-3, 1e-2), 'lstm': (3e-3, 1e-2, 3e-2)}
"""Peak learning rates that are tried with the smallest pair."""

RATE = {'llama': 3e-3, 'lstm': 1e-2}
"""With which the larger pairs are trained."""


def configs(source: str, changes: Mapping[str, Any] | None = None) -> dict[str, Config]:
    """The runs by the names of their folders, `llama_d128_0.001` and so on.

    Steps are as many as the pair's FLOPs pay for, by the exact count, rounded.

    Args:
      source: the text.
      changes: of any field, in all runs; steps follow.

    Raises:
      UserError: a change that is refused, or one that makes steps cost more than a pair has.
    """
    found = {}
    tried = [
        (size, model, rate) for size in SIZES for model in LAYERS for rate in rates(model, size)
    ]
    for size, model, rate in tried:
        width, flops = SIZES[size]
        shared = {
            'model.name': model, 'model.num_layers': LAYERS[model], 'model.d_model': width,
            'model.num_heads': max(1, width // 32), 'model.vocab_size': 1024,
            'model.max_positions': 256, 'model.options.tie_embeddings': True,
            'data.source': source, 'train.seq_len': 256, 'train.batch_size': 16,
            'optim.peak_lr': rate, 'eval.every_steps': 10_000,
            'checkpoint.every_steps': 10_000, 'eval.sample_tokens': 0, 'mesh.devices': 1,
            'precision.policy': 'fp32',
        }  # fmt: skip
        config = lm.load_config('quickstart', **{**shared, **(changes or {})})
        steps = round(flops / step_flops(config, train_flops_exact))
        require(steps >= 1, f'train.batch_size: a step of {model} costs more than {flops:g}')
        found[run_name(model, size, rate)] = lm.load_config(
            'quickstart', **{**shared, **(changes or {}), 'train.steps': steps}
        )
    return found


def rates(model: str, size: str) -> tuple[float, ...]:
    """Peak rates of the runs of one of a pair."""
    return RATES[model] if size == next(iter(SIZES)) else (RATE[model],)


def best_rates(runs: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """By size and model, the rate of the run with the lowest `eval_loss`."""
    return {
        (size, model): min(
            rates(model, size), key=lambda rate: runs[run_name(model, size, rate)]['eval_loss']
        )
        for size, model in itertools.product(SIZES, LAYERS)
    }


def run_name(model: str, size: str, rate: float) -> str:
    """The folder of a run."""
    return f'{model}_{size}_{rate:g}'


def windows(config: Config) -> tuple[Int[np.ndarray, 'N T'], Int[np.ndarray, 'N T']]:
    """Inputs and targets of all windows of T = seq_len tokens that held-out documents fill.

    The first input is the token before the window, bos at a document's beginning.

    Raises:
      UserError: there are fewer than two.
    """
    from lm.data.prepare import prepare

    prepared, size = prepare(config.data, config.model.vocab_size), config.train.seq_len
    store, bos = prepared.validation, prepared.tokenizer.vocabulary.bos_id
    rows = [
        np.append(store.read(i, start - 1, start) if start else bos, store.read(i, start, stop))
        for i in range(store.documents)
        for start, stop in itertools.pairwise(range(0, int(store.lengths[i]) + 1, size))
    ]
    require(
        len(rows) > 1,
        f'data.source={config.data.source}: held-out documents fill {len(rows)} windows of {size} '
        'tokens; give text with at least two',
    )
    rows_NR = np.stack(rows).astype(np.int32)
    return rows_NR[:, :-1], rows_NR[:, 1:]


def measure(folder: Path, config: Config) -> Float[np.ndarray, 'N T']:
    """Nats at each position of each window, by the run in a folder."""
    from lm.evaluation.in_context_learning import nats_by_position
    from lm.training.load import load

    return nats_by_position(load(folder), *windows(config))[0]


def octaves(length: int) -> list[tuple[int, int]]:
    """Stretches of positions, each twice as long as the one before: [0, 1), [1, 2), [2, 4), ..."""
    edges = [0, 1]
    while edges[-1] < length:
        edges.append(min(2 * edges[-1], length))
    return list(itertools.pairwise(edges))


def analyze(
    losses: Mapping[str, Float[np.ndarray, 'N T']], runs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Each pair: loss by octave of positions, the gap, and what the last octaves gained.

    `gap` is the LSTM's loss less the transformer's. `late_gain` is a model's loss in the third
    octave from the end less that in the last; the text's own difficulty by position is in it, and
    cancels in `late_gain_difference`, the transformer's less the LSTM's.

    Args:
      losses: nats of each window and position, of the same windows for all runs that count.
      runs: what is told of each run beside its losses; `eval_loss` chooses the rate.
    """
    found: dict[str, Any] = {}
    best = best_rates(runs)
    for size in SIZES:
        pair: dict[str, Any] = {}
        bins_NO, gains_N = {}, {}
        for model in LAYERS:
            tried = {rate: runs[run_name(model, size, rate)] for rate in rates(model, size)}
            rate = best[size, model]
            losses_NT = losses[run_name(model, size, rate)]
            bins_NO[model] = _by_octave(losses_NT)
            gains_N[model] = bins_NO[model][:, -3] - bins_NO[model][:, -1]
            pair[model] = {
                **tried[rate],
                'peak_lr': rate,
                'eval_losses': {f'{rate:g}': run['eval_loss'] for rate, run in tried.items()},
                'loss': _told(bins_NO[model]),
                'mean_loss': float(losses_NT.mean()),
                'late_gain': _told(gains_N[model]),
            }
        pair['gap'] = _told(bins_NO['lstm'] - bins_NO['llama'])
        pair['late_gain_difference'] = _told(gains_N['llama'] - gains_N['lstm'])
        found[size] = pair
    windows_N_T = next(iter(losses.values()))
    octave_edges = octaves(windows_N_T.shape[1])
    return {'windows': len(windows_N_T), 'octaves': octave_edges, 'pairs': found}


def _by_octave(losses_NT: np.ndarray) -> np.ndarray:
    """Each window's mean over each octave, [N, O]."""
    stretches = octaves(losses_NT.shape[1])
    return np.stack([losses_NT[:, start:stop].mean(1) for start, stop in stretches], axis=1)


def _told(values_N: np.ndarray) -> dict[str, Any]:
    """Mean over windows, and its standard error."""
    error = values_N.std(axis=0, ddof=1) / math.sqrt(len(values_N))
    return {'mean': values_N.mean(axis=0).tolist(), 'standard_error': error.tolist()}


def plot(told: Mapping[str, Any], path: str) -> None:
    """Loss by position, a panel a pair; bars are a standard error each way."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, [panels] = pyplot.subplots(1, len(SIZES), figsize=(9, 3.2), sharey=True, squeeze=False)
    middles = [math.sqrt((start + 1) * stop) for start, stop in told['octaves']]
    for axes, (size, pair) in zip(panels, told['pairs'].items(), strict=True):
        for model, words in (('lstm', 'LSTM'), ('llama', 'transformer')):
            loss = pair[model]['loss']
            axes.errorbar(
                middles, loss['mean'], loss['standard_error'], marker='.', capsize=2, label=words
            )
        axes.set_xscale('log', base=2)
        axes.set_title(f'{size}, {pair["llama"]["exact_flops"]:.2g} FLOPs each', fontsize=9)
        axes.set_xlabel('position')
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('nats a token')
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Prints the analysis as one JSON object; with `--run` only trains."""
    return run_command('loss_by_position', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('source', str, '', 'the text: a file, directory or glob')
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('plot', str, '', 'an SVG or PNG of losses by position; empty: none')
    flags.define('run', str, '', 'train this one and tell nothing; empty: all, then tell')


def _run(flags: Flags) -> dict[str, Any] | None:
    runs = configs(flags.required('source'))
    folder, one = own_folder(flags), flags['run']
    require(not one or one in runs, f'run={one}: must be one of {", ".join(runs)}')
    told = {}
    for name in [one] if one else runs:
        print(f'{name}: {runs[name].train.steps} steps', file=sys.stderr)
        summary = lm.train(runs[name], folder / name)
        fields = ('params', 'params_non_embedding', 'tokens', 'eval_loss', 'bits_per_byte')
        told[name] = {field: summary[field] for field in fields}
        told[name]['exact_flops'] = (
            step_flops(runs[name], train_flops_exact) * runs[name].train.steps
        )
    if one:
        return None
    counted = [run_name(model, size, rate) for (size, model), rate in best_rates(told).items()]
    losses = {name: measure(folder / name, runs[name]) for name in counted}
    found = analyze(losses, told)
    if flags['plot']:
        plot(found, flags['plot'])
    return found


if __name__ == '__main__':
    sys.exit(main())
