"""What size for a compute budget? Iso-FLOP grids of CLM, MLM or span corruption, and their laws.

Command: python -m experiments.chinchilla --source=FILE --workdir=DIR [--objective=mlm]
    [--stop_before_top] [--plot=FILE.png]
Hardware: 2 CPU cores.
Time: 35 minutes for causal language modelling at the default budgets.
Expected: losses of each budget lie on a bowl in ln N with its bottom inside the grid; the bottom
    moves up with the budget, faster where embeddings are not counted than where they are.

A run trains a model of a ladder of widths, for as many steps as its budget allows by the rule 6N
(each matrix that multiplies, the tied output matrix too: 6 N D with N the total up to norms).
Before the largest budget is run, what the smaller ones say of its best loss and size is written to
`prediction.json`, with 90 % intervals, and never written again; afterwards what was found stands
beside it. The same with `lm sweep --experiment=chinchilla`, without the prediction.

Rules, so that no run is tuned by hand: D = C / 6N; rows a step are the power of two nearest to
16 sqrt(D / 2e6), for the noise of a gradient matters the less the longer a run; the learning rate
falls with width and depth (`learning_rate`). Of the smallest and the largest budget the size in the
middle is run at other rates too; a best rate at the edge of these is told. The runs at the rule's
rates are in `by_the_rule.jsonl`, for `lm fit`.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lm
from lm.config import Config, require, setting
from lm.errors import UserError
from lm.flags import Flags
from lm.planning.budget import step_flops
from lm.planning.counts import count_parameters
from lm.planning.parameters import model_shape
from lm.resolution import override
from lm.sweep import Sweep
from lm.sweep.local import run_here
from lm.training.workdir import write_jsonl

from ._command import own_folder, run_command
from ._isoflop_study import analyze, by_the_rule, plot, predict, table

MODELS = {'clm': 'llama', 'mlm': 'bert', 'span_corruption': 't5'}
"""The architecture that each objective trains; `NAME_tiny` is the config."""
WIDTHS = (
    8,
    16,
    24,
    32,
    40,
    48,
    56,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    256,
    320,
    384,
    512,
    640,
    768,
    1024,
)
HEAD_DIM = 8
FLOPS_PER_PARAM = {'clm': 6, 'mlm': 6, 'span_corruption': 3}
"""By token of text: of an encoder-decoder each half sees its own tokens."""
RATE = {'clm': 0.3, 'mlm': 0.3, 'span_corruption': 0.6}
"""Peak learning rate times width times the root of depth."""


@dataclass(frozen=True)
class Setting:
    """The grid; every field is a flag."""

    source: str = setting('', 'the text, as data.source')
    documents: str = setting('file', 'what one document of a plain text is, as data.documents')
    validation_fraction: float = setting(0.005, 'documents held out')
    objective: Literal['clm', 'mlm', 'span_corruption'] = setting('clm', 'what is trained')
    budgets: tuple[float, ...] = setting(
        (3e11, 6e11, 1.2e12, 2.4e12, 4.8e12), 'FLOPs of the runs, of at least 3 budgets'
    )
    sizes: int = setting(6, 'sizes of each budget')
    tokens_per_param: float = setting(40.0, "of the middle of each budget's sizes")
    lr_factors: tuple[float, ...] = setting(
        (0.5, 2.0, 4.0), 'other learning rates of the middle size, by the rule, at both ends'
    )
    vocab_size: int = setting(1024, 'tokens of the tokenizer')
    seq_len: int = setting(128, 'tokens a row')
    seed: int = setting(0, 'of every run')

    def __post_init__(self) -> None:
        require(
            len(set(self.budgets)) >= 3 and min(self.budgets) > 0,
            f'budgets={self.budgets}: give at least 3, all positive: two or more foretell the last',
        )
        require(3 <= self.sizes <= len(WIDTHS), f'sizes={self.sizes}: between 3 and {len(WIDTHS)}')


def layers(width: int) -> int:
    """How deep a model of the ladder is.

    Two layers at the least: a single one cannot look up what followed a token before, and a ladder
    on which some models can and some cannot has a step in its bowls.
    """
    return max(2, math.ceil(width / 32))


def learning_rate(objective: str, width: int, depth: int) -> float:
    """The peak rate by the rule, c / (width sqrt(depth)).

    As for Adam in the infinite limits of both (Yang et al. 2022, arXiv 2203.03466; 2023, arXiv
    2310.02244). Of causal models of 32 x 1, 64 x 2 and 128 x 4 the best rates of a search by
    factors of 2 were 1e-2, 4e-3 and 1.25e-3: c of 0.32, 0.36 and 0.32.
    """
    return float(f'{RATE[objective] / (width * math.sqrt(depth)):.3g}')


def configs(study: Setting) -> dict[str, Config]:
    """The runs by name, `8e+11-d64`, the smallest budget first.

    Raises:
      UserError: what a section refuses, or a budget less than a step of some size takes.
    """
    ladder = {width: _model(study, width) for width in WIDTHS}
    params = {w: count_parameters(model_shape(one.model)).total for w, one in ladder.items()}
    budgets, runs = sorted(set(study.budgets)), {}
    for budget in budgets:
        middle = math.sqrt(budget / (FLOPS_PER_PARAM[study.objective] * study.tokens_per_param))
        away = {width: abs(math.log(params[width] / middle)) for width in WIDTHS}
        nearest = sorted(WIDTHS, key=away.__getitem__)[: study.sizes]
        for width in sorted(nearest):
            factors: tuple[float, ...] = (1.0,)
            if width == nearest[0] and budget in (budgets[0], budgets[-1]):
                factors += study.lr_factors
            for factor in dict.fromkeys(factors):
                name = f'{budget:g}-d{width}' + ('' if factor == 1 else f'-lr{factor:g}')
                runs[name] = _run(study, ladder[width], budget, factor)
    return runs


def _model(study: Setting, width: int) -> Config:
    model = MODELS[study.objective]
    depth = layers(width)
    return lm.load_config(
        f'{model}_tiny',
        **{
            'model.d_model': width,
            # Each half of an encoder-decoder has as many layers as config says.
            'model.num_layers': math.ceil(depth / 2) if model == 't5' else depth,
            'model.num_heads': width // HEAD_DIM,
            'model.num_kv_heads': None,
            'model.vocab_size': study.vocab_size,
            'model.max_positions': study.seq_len,
            **({} if model == 'bert' else {'model.options.tie_embeddings': True}),
            'data.source': study.source,
            'data.documents': study.documents,
            'data.validation_fraction': study.validation_fraction,
            'optim.peak_lr': learning_rate(study.objective, width, depth),
            'optim.eps': 1e-8,
            'optim.weight_decay': 0.1,
            'train.seq_len': study.seq_len,
            'train.seed': study.seed,
            'eval.every_steps': 10**9,
            'eval.sample_tokens': 0,
            'mesh.devices': 1,
        },
    )


def _run(study: Setting, model: Config, budget: float, factor: float) -> Config:
    params = count_parameters(model_shape(model.model)).total
    tokens = budget / (FLOPS_PER_PARAM[study.objective] * params)
    rows = 2 ** max(2, round(math.log2(16 * math.sqrt(tokens / 2e6))))
    config = override(
        model,
        {
            'train.batch_size': rows,
            'train.flops': budget,
            'optim.peak_lr': model.optim.peak_lr * factor,
        },
    )
    steps = int(budget // step_flops(config))
    require(
        steps >= 20,
        f'budgets: {budget:g} FLOPs are {steps} steps of {params} parameters, and less than 20 '
        'teach nothing; give more, or a shorter seq_len',
    )
    return override(
        config,
        {
            'optim.warmup_steps': max(1, steps // 10),
            'train.log_every_steps': max(1, steps // 20),
            'checkpoint.every_steps': max(1, steps // 4),
        },
    )


def main() -> int:
    """Prints the table on stderr and the result as one JSON object."""
    return run_command('chinchilla', __doc__, _define_flags, _run_study)


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', 'the folder of the sweep')
    flags.define('at_once', int, 2, 'runs that go at the same time')
    flags.define('stop_before_top', bool, False, 'stop when the prediction is written')
    flags.define('plot', str, '', 'FILE.png or .svg of bowls, laws and prediction; empty: none')


def _run_study(flags: Flags) -> dict[str, Any]:
    flags.required('source')
    study = flags.setting(Setting)
    folder = own_folder(flags)
    runs = configs(study)
    top = max(study.budgets)
    lower = {name: config for name, config in runs.items() if config.train.flops != top}
    rows = made(folder, lower, flags['at_once'])
    prediction = predict(rows, top, folder / 'prediction.json')
    if flags['stop_before_top']:
        return prediction
    rows = made(folder, runs, flags['at_once'])
    write_jsonl(folder / 'by_the_rule.jsonl', by_the_rule(rows))
    result = analyze(rows, prediction) | {'setting': dataclasses.asdict(study)}
    if flags['plot']:
        plot(result, flags['plot'])
    print(table(result), file=sys.stderr)
    return result


def made(folder: Path, runs: Mapping[str, Config], at_once: int) -> list[dict[str, Any]]:
    """The rows of these runs, made as far as they are not there.

    Raises:
      UserError: a run failed, or was ended by a signal: a law of what is left would be of others.
    """
    rows = Sweep(folder, runs).make(lambda jobs, ended: run_here(jobs, at_once, ended))
    failed = [row for row in rows if row['error'] is not None]
    if failed:
        raise UserError(f'{len(failed)} runs failed: {failed[0]["name"]}: {failed[0]["error"]}')
    require(len(rows) == len(runs), f'{len(runs) - len(rows)} runs did not end; start again')
    return rows


if __name__ == '__main__':
    sys.exit(main())
