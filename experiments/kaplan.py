"""How does loss fall with size alone, with data alone, and with compute? Kaplan's three lines.

Command: python -m experiments.kaplan --source=FILE --workdir=DIR [--plot=FILE.png]
Hardware: 2 CPU cores.
Time: 20 minutes; 7 with --tokens=2000000 --widths=16,24,32,48 --epochs=10.
Expected: three lines on log-log axes; the exponent of data is above that of size.

- L(N): models of several widths, trained on the same many tokens; N without embeddings.
- L(D): the widest of them on the first D tokens of the text again and again; the loss is the least
  that an evaluation finds, as if the run had been stopped there.
- L(C): the lower envelope of the learning curves of the first, C = 6 N D.

All losses are of held-out text. References: Kaplan et al. 2020, "Scaling Laws for Neural Language
Models", arXiv 2001.08361, equations 1.1 to 1.3: L = (X_c / X)^alpha. Their models were trained to
convergence; these are not, so that L(N) bends where the largest would have learnt more.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lm
from lm.config import Config, require, setting
from lm.flags import Flags
from lm.resolution import override
from lm.scaling.envelope import lower_hull
from lm.scaling.frontier import PowerLaw, regress
from lm.training.workdir import Workdir, read_jsonl

from ._command import own_folder, run_command
from .chinchilla import HEAD_DIM, layers, learning_rate, made

LINES = {'N': 'parameters without embeddings', 'D': 'tokens of text', 'C': 'FLOPs, 6 N D'}


@dataclass(frozen=True)
class Setting:
    """The lines' points; every field is a flag."""

    source: str = setting('', 'the text, as data.source')
    documents: str = setting('file', 'what one document of a plain text is, as data.documents')
    validation_fraction: float = setting(0.005, 'documents held out')
    widths: tuple[int, ...] = setting((16, 24, 32, 48, 64), 'of the models of L(N)')
    tokens: int = setting(4_000_000, 'that each model of L(N) is trained on')
    data: tuple[int, ...] = setting(
        (32_768, 65_536, 131_072, 262_144, 524_288), 'tokens of text of L(D)'
    )
    epochs: int = setting(16, 'times that the runs of L(D) read their text, at the most')
    vocab_size: int = setting(1024, 'tokens of the tokenizer')
    seq_len: int = setting(128, 'tokens a row')
    batch_size: int = setting(16, 'rows a step')
    evaluations: int = setting(20, 'of held-out text in each run')
    seed: int = setting(0, 'of every run')

    def __post_init__(self) -> None:
        for name in ('widths', 'data'):
            count = len(set(getattr(self, name)))
            require(count >= 3, f'{name}: {count} different values; a line needs at least 3')
        for tokens in self.data:
            require(
                tokens % self.tokens_a_step == 0,
                f'data={tokens}: give multiples of a step, {self.tokens_a_step} tokens',
            )

    @property
    def tokens_a_step(self) -> int:
        """Of each run."""
        return self.batch_size * self.seq_len


def configs(study: Setting) -> dict[str, Config]:
    """The runs by name: `N-d64` of the first line, `D-131072` of the second.

    Raises:
      UserError: what a section refuses.
    """
    runs = {}
    for width in sorted(study.widths):
        steps = study.tokens // study.tokens_a_step
        runs[f'N-d{width}'] = _run(study, width, steps)
    for tokens in sorted(study.data):
        batches = tokens // study.tokens_a_step
        limited = _run(study, max(study.widths), batches * study.epochs)
        runs[f'D-{tokens}'] = override(limited, {'data.overfit_batches': batches})
    return runs


def _run(study: Setting, width: int, steps: int) -> Config:
    return lm.load_config(
        'llama_tiny',
        **{
            'model.d_model': width,
            'model.num_layers': layers(width),
            'model.num_heads': width // HEAD_DIM,
            'model.num_kv_heads': None,
            'model.vocab_size': study.vocab_size,
            'model.max_positions': study.seq_len,
            'model.options.tie_embeddings': True,
            'data.source': study.source,
            'data.documents': study.documents,
            'data.validation_fraction': study.validation_fraction,
            'optim.peak_lr': learning_rate('clm', width, layers(width)),
            'optim.warmup_steps': max(1, steps // 10),
            'train.steps': steps,
            'train.batch_size': study.batch_size,
            'train.seq_len': study.seq_len,
            'train.seed': study.seed,
            'train.log_every_steps': max(1, steps // 20),
            'eval.every_steps': max(1, steps // study.evaluations),
            # More than there are: the whole of the held-out text each time.
            'eval.batches': 10**6,
            'eval.sample_tokens': 0,
            'checkpoint.every_steps': max(1, steps // 4),
            'mesh.devices': 1,
        },
    )


@dataclass(frozen=True)
class Line:
    """Points of one of the three, and the power law through them: L = (constant / x)^exponent."""

    x: np.ndarray
    losses: np.ndarray

    @property
    def law(self) -> PowerLaw:
        """Least squares of ln L on ln x."""
        return regress(self.x, self.losses)

    def words(self, name: str) -> str:
        """The law for a reader."""
        told = self.told()
        if told['constant'] is None:
            return f'L({name}) does not fall with {name}: exponent {told["alpha"]:.4f}'
        return f'L({name}) = ({told["constant"]:.4g} / {name})^{told["alpha"]:.4f}'

    def told(self) -> dict[str, Any]:
        """As JSON."""
        alpha = -self.law.exponent
        return {
            'alpha': alpha,
            'constant': float(np.exp(self.law.log_constant / alpha)) if alpha > 0 else None,
            'points': [list(map(float, pair)) for pair in zip(self.x, self.losses, strict=True)],
        }


def lines(
    rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Line]:
    """The three lines.

    Args:
      rows: of the runs, as a sweep has them.
      curves: by run the rows of its evaluations: `tokens`, and `loss` of held-out text.
    """
    sized = [row for row in rows if row['name'].startswith('N-')]
    limited = [row for row in rows if row['name'].startswith('D-')]
    points = [
        (6.0 * row['params_non_embedding'] * at['tokens'], at['loss'])
        for row in sized
        for at in curves[row['name']]
    ]
    compute, losses = np.array(points).T
    hull = lower_hull(np.log(compute), np.log(losses))
    return {
        'N': _line([(row['params_non_embedding'], row['loss']) for row in sized]),
        'D': _line(
            [
                (row['unique_tokens'], min(at['loss'] for at in curves[row['name']]))
                for row in limited
            ]
        ),
        'C': Line(compute[hull], losses[hull]),
    }


def _line(points: Sequence[tuple[float, float]]) -> Line:
    x, losses = np.array(points, np.float64).T
    return Line(x, losses)


def main() -> int:
    """Prints the lines on stderr and the result as one JSON object."""
    return run_command('kaplan', __doc__, _define_flags, _run_study)


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', 'the folder of the sweep')
    flags.define('at_once', int, 2, 'runs that go at the same time')
    flags.define('plot', str, '', 'FILE.png or .svg of the three lines; empty: none')


def _run_study(flags: Flags) -> dict[str, Any]:
    flags.required('source')
    study = flags.setting(Setting)
    folder = own_folder(flags)
    rows = made(folder, configs(study), flags['at_once'])
    curves = {row['name']: _curve(folder / 'runs' / row['run'], study) for row in rows}
    found = lines(rows, curves)
    if flags['plot']:
        plot(found, flags['plot'])
    for name, line in found.items():
        print(line.words(name), file=sys.stderr)
    return {
        'lines': {name: line.told() for name, line in found.items()},
        'setting': dataclasses.asdict(study),
    }


def _curve(folder: Path, study: Setting) -> list[dict[str, Any]]:
    return [
        {'tokens': row['step'] * study.tokens_a_step, 'loss': row['loss']}
        for row in read_jsonl(Workdir(folder).eval_file)
    ]


def plot(found: Mapping[str, Line], path: str) -> None:
    """Three panels, each with its points and its line, on log-log axes."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), sharey=True)
    for axes, (name, line) in zip(panels, found.items(), strict=True):
        ends = np.array([line.x.min(), line.x.max()])
        axes.plot(line.x, line.losses, 'o')
        axes.plot(ends, [line.law(x) for x in ends], '-', color='C0', linewidth=1)
        axes.set(xscale='log', yscale='log', xlabel=LINES[name])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.set_title(f'L({name}): exponent {-line.law.exponent:.3f}')
    panels[0].set_ylabel('held-out loss, nats a token')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == '__main__':
    sys.exit(main())
