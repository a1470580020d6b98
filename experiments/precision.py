"""What does a number format cost? Every precision policy beside fp32, in paired runs.

Command: python -m experiments.precision --source=FILE --workdir=DIR [--gaps_plot=FILE.svg]
    [--underflow_plot=FILE.svg]
Hardware: 2 CPU cores.
Time: 50 minutes for 144 runs, on cores that others used too: 9 s a run, 30 with the large batch,
    and as long again for compiling with the first seed.
Expected: all controls behave; bf16_pure is worse by 0.01 to 0.02 nats for BERT and T5, which
    stochastic rounding heals; of the other policies no difference is seen at this size.

For one family and seed all arms have the same `train.seed`, and with it the same initial
parameters (rounded to the dtype they are kept in), rows, corruption and order; they differ in what
the arm names. An arm's gap is its loss over the whole held-out text less that of its reference,
with Student's 95 % interval of the mean over seeds, and beside it the smallest gap that so many
pairs would probably see. Intervals are not corrected for how many there are: of twenty arms
without a gap one seems to have one.

Controls say whether the study can be believed. fp32 against fp32 whose gradients are summed in
another order (two microbatches) must show no difference, which it fails by chance once in twenty.
Two must be seen to be worse. At a constant learning rate of 1e-5 updates are smaller than half
the spacing of bf16 numbers (w / 256 or more) where weights are above 0.003, so bf16_pure, which
rounds to nearest, learns hardly. And fp16 without a loss scale loses gradients: that of a logit is
its probability over the number of targets, so with a vocabulary of V numbers and N targets it
begins at 1 / (V N), and fp16's smallest number is 2**-24. A run that ends in a number that is not
finite is a divergence: it is counted, and the study goes on.

On a CPU tf32 multiplies as fp32 does. Seconds a step are of the machine at hand, and of no other.
"""

import dataclasses
import itertools
import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lm
from lm.config import Config, require, setting
from lm.errors import UserError
from lm.flags import Flags
from lm.objectives._objective import build_objective
from lm.precision.policy import POLICIES
from lm.resolution import from_json, override, to_json
from lm.training.loop import NonFinite
from lm.training.workdir import Workdir, read_jsonl, write_json
from lm.vocabulary import placeholder

from ._command import own_folder, run_command
from ._paired import Comparison
from ._precision_probes import gradient_range, measured_bytes, planned_bytes
from ._precision_report import plot_gaps, plot_underflow, table, underflow_table

FAMILIES = {'bert': 'encoder', 'llama': 'decoder', 't5': 'encoder_decoder'}
"""Architectures, one of each family; `NAME_tiny` is the config."""
GRADIENTS_OF = ('fp32', 'fp32, large batch')
"""The arms at the end of whose first run gradients are looked at."""
DIVERGED = 'diverged.json'
"""In the folder of a run that ended in a number that is not finite."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    source: str = setting('', 'the text, as data.source')
    documents: str = setting('file', 'what one document of a plain text is, as data.documents')
    validation_fraction: float = setting(0.005, 'documents held out')
    families: tuple[str, ...] = setting(tuple(FAMILIES), 'of bert, llama, t5')
    policies: tuple[str, ...] = setting(
        tuple(POLICIES), 'beside fp32; controls run whatever is named here'
    )
    seeds: int = setting(3, 'pairs of each arm, with the seeds 0, 1, ...; at least 2')
    steps: int = setting(150, 'of each run')
    d_model: int = setting(64, 'width of every model')
    num_layers: int = setting(2, 'layers, on each side of an encoder-decoder')
    vocab_size: int = setting(1024, 'tokens of the common tokenizer')
    seq_len: int = setting(64, 'tokens a row')
    batch_size: int = setting(16, 'rows a step')
    peak_lr: float = setting(2e-3, 'learning rate of every run but those at 1e-5')
    control_targets: int = setting(16384, 'predictions a step of the large batch, at least')
    control_steps: int = setting(40, 'of each run with the large batch')

    def __post_init__(self) -> None:
        require(self.seeds >= 2, f'seeds={self.seeds}: an interval needs at least 2')
        for name, known in (('families', FAMILIES), ('policies', POLICIES)):
            for value in getattr(self, name):
                require(value in known, f'{name}: {value}; give some of {", ".join(known)}')


@dataclass(frozen=True)
class Arm:
    """Runs that differ from their reference in one thing.

    Attributes:
      changes: to the family's config; those of a large batch are filled in by the family.
      reference: the arm that it is compared with; None: it is one.
      must: what a control has to show; None: it is no control.
      large_batch: it has as many rows and steps as the study's control of fp16 asks for; its
        reference has them too.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: str | None = 'fp32'
    must: Literal['alike', 'worse'] | None = None
    large_batch: bool = False


SLOW = {'optim.schedule': 'constant', 'optim.peak_lr': 1e-5, 'optim.warmup_steps': 0}
STOCHASTIC = {'precision.policy': 'bf16_pure', 'precision.stochastic_rounding': True}
UNSCALED = {
    'precision.policy': 'fp16_mixed',
    'precision.loss_scaling': 'fixed',
    'precision.loss_scale': 1.0,
}

MORE_TARGETS = {'objective.options.noise_rate': 0.5}
"""Of T5's large batch: with the usual 0.15 a row has 14 targets of 64, and five times as many rows
would have to be read."""


def arms(policies: tuple[str, ...]) -> dict[str, Arm]:
    """The arms by name: fp32 first, then the policies asked for, then the controls."""
    found = {'fp32': Arm(reference=None)}
    for name in policies:
        if name != 'fp32':
            found[name] = Arm({'precision.policy': name})
        if name == 'bf16_pure':
            found['bf16_pure, stochastic'] = Arm(STOCHASTIC)
        if name == 'fp16_mixed':
            found['fp16, unscaled'] = Arm(UNSCALED)
    nearest = {**SLOW, 'precision.policy': 'bf16_pure'}
    return found | {
        'A/A: fp32, 2 microbatches': Arm({'train.microbatches': 2}, must='alike'),
        'fp32 at 1e-5': Arm(SLOW, reference=None),
        'bf16_pure at 1e-5': Arm(nearest, 'fp32 at 1e-5', 'worse'),
        'bf16_pure, stochastic at 1e-5': Arm({**SLOW, **STOCHASTIC}, 'fp32 at 1e-5'),
        'fp32, large batch': Arm(reference=None, large_batch=True),
        'fp16, unscaled, large batch': Arm(UNSCALED, 'fp32, large batch', 'worse', True),
    }


def configs(study: Setting, model: str) -> dict[str, Config]:
    """A config of each arm of a family, with the first seed.

    Raises:
      UserError: what a section, the objective or the vocabulary refuses.
    """
    base = lm.load_config(
        f'{model}_tiny',
        **{
            'model.d_model': study.d_model,
            'model.num_layers': study.num_layers,
            'model.vocab_size': study.vocab_size,
            'model.max_positions': study.seq_len,
            'model.dropout': 0.0,
            'data.source': study.source,
            'data.documents': study.documents,
            'data.validation_fraction': study.validation_fraction,
            'optim.peak_lr': study.peak_lr,
            'train.seq_len': study.seq_len,
            'train.batch_size': study.batch_size,
            'eval.every_steps': 10**9,
            'eval.sample_tokens': 0,
            'checkpoint.every_steps': 10**9,
            'mesh.devices': 1,
            'precision.policy': 'fp32',
        },
    )
    large = override(base, MORE_TARGETS if model == 't5' else {})
    targets = build_objective(large, placeholder(study.vocab_size)).target_len
    large = override(large, {'train.batch_size': math.ceil(study.control_targets / targets)})
    found = {}
    for name, arm in arms(study.policies).items():
        steps = study.control_steps if arm.large_batch else study.steps
        length = {
            'train.steps': steps,
            'train.log_every_steps': max(steps // 20, 1),
            'optim.warmup_steps': steps // 10,
        }
        found[name] = override(large if arm.large_batch else base, {**length, **arm.changes})
    return found


@dataclass(frozen=True)
class Outcome:
    """What is kept of a run.

    Attributes:
      loss: nats a target of the whole held-out text; None: the run diverged.
      skipped: steps whose gradients overflowed, and which changed nothing.
      step_seconds: median over stretches of its steps, without the first; None: there is one only.
      params_sha256: of its parameters at the end; None: it diverged.
    """

    loss: float | None
    skipped: int
    step_seconds: float | None
    params_sha256: str | None


def trained(config: Config, folder: Path) -> Outcome:
    """Trains a run in its folder, or reads what came of it before.

    Raises:
      UserError: what `lm.train` refuses, but for a loss that is not finite.
    """
    record = folder / DIVERGED
    summary: dict[str, Any] = {}
    if not (record.exists() and from_json(json.loads(record.read_text())['config']) == config):
        try:
            summary = lm.train(config, folder)
        except UserError as error:
            if not isinstance(error.__cause__, NonFinite):
                raise
            write_json(record, {'config': to_json(config), 'error': str(error)})
    rows = read_jsonl(Workdir(folder).metrics_file)
    loss = summary.get('eval_loss', math.nan)
    return Outcome(
        loss if math.isfinite(loss) else None,
        rows[-1].get('skipped_steps', 0) if rows else 0,
        _step_seconds(rows),
        summary.get('params_sha256'),
    )


def _step_seconds(rows: list[dict[str, Any]]) -> float | None:
    """Median seconds a step between rows of metrics.jsonl."""
    pairs = list(itertools.pairwise(rows))
    if not pairs:
        return None
    return statistics.median(
        (after['seconds'] - before['seconds']) / (after['step'] - before['step'])
        for before, after in pairs
    )


def run(study: Setting, folder: Path) -> dict[str, dict[str, list[Outcome]]]:
    """Family -> arm -> an outcome of each seed.

    Seed after seed, so that a study that is cut short is whole with fewer; the arms of a seed
    follow each other, so that their steps are timed side by side.
    """
    runs = {model: configs(study, model) for model in study.families}
    found: dict[str, dict[str, list[Outcome]]] = {
        model: {name: [] for name in named} for model, named in runs.items()
    }
    for seed in range(study.seeds):
        for model, named in runs.items():
            for name, config in named.items():
                print(f'{model}: {name}, seed {seed}', file=sys.stderr)
                config = override(config, {'train.seed': seed})
                outcome = trained(config, run_folder(folder, model, name, seed))
                found[model][name].append(outcome)
    return found


def run_folder(folder: Path, model: str, arm: str, seed: int) -> Path:
    """Of one run: `FOLDER/llama/bf16_pure-at-1e-5/seed0`."""
    words = ''.join(letter if letter.isalnum() or letter in '_-' else ' ' for letter in arm)
    return folder / model / '-'.join(words.split()) / f'seed{seed}'


def compared(outcomes: list[Outcome], references: list[Outcome]) -> Comparison:
    """An arm's runs beside those of its reference, seed by seed."""
    pairs = list(zip(outcomes, references, strict=True))
    return Comparison(
        len(pairs),
        sum(one.loss is None for one in outcomes),
        tuple(a.loss - b.loss for a, b in pairs if a.loss is not None and b.loss is not None),
        all(a.params_sha256 is not None and a.params_sha256 == b.params_sha256 for a, b in pairs),
    )


def behaves(must: str | None, comparison: Comparison | None) -> bool | None:
    """Whether a control shows what it has to; None: it is no control."""
    if must is None or comparison is None:
        return None
    return comparison.alike if must == 'alike' else comparison.worse


def analyze(
    study: Setting, found: Mapping[str, Mapping[str, list[Outcome]]]
) -> dict[str, dict[str, Any]]:
    """Family -> arm -> its row of the table, without what is measured of policies."""
    result: dict[str, dict[str, Any]] = {}
    for model, outcomes in found.items():
        rows: dict[str, Any] = {}
        for name, arm in arms(study.policies).items():
            own, reference = outcomes[name], outcomes[arm.reference or name]
            comparison = None if arm.reference is None else compared(own, reference)
            rows[name] = {
                'reference': arm.reference,
                'losses': [one.loss for one in own],
                **_of_gap(comparison),
                'diverged': sum(one.loss is None for one in own),
                'skipped': sum(one.skipped for one in own),
                'step_ratio': None if arm.reference is None else _step_ratio(own, reference),
                'step_seconds': [one.step_seconds for one in own],
                'verdict': 'reference' if comparison is None else comparison.verdict,
                'must': arm.must,
                'behaves': behaves(arm.must, comparison),
            }
        result[model] = rows
    return result


def _of_gap(comparison: Comparison | None) -> dict[str, Any]:
    gap = None if comparison is None else comparison.gap
    if comparison is None or gap is None:
        return {'gap': None, 'plus_minus_95': None, 'detectable': None, 'gaps': []}
    return {
        'gap': gap.mean,
        'plus_minus_95': gap.reach,
        'detectable': gap.detectable,
        'gaps': list(comparison.differences),
    }


def _step_ratio(own: list[Outcome], reference: list[Outcome]) -> float | None:
    """Median over seeds of an arm's seconds a step over its reference's."""
    ratios = [
        a.step_seconds / b.step_seconds
        for a, b in zip(own, reference, strict=True)
        if a.step_seconds and b.step_seconds
    ]
    return statistics.median(ratios) if ratios else None


def state_bytes(study: Setting, model: str) -> dict[str, dict[str, dict[str, float]]]:
    """Arm -> measured and planned -> bytes a parameter of each group; a policy is measured once."""
    vocabulary = placeholder(study.vocab_size)
    by_policy: dict[str, dict[str, dict[str, float]]] = {}
    found = {}
    for name, config in configs(study, model).items():
        policy = config.precision.policy
        if policy not in by_policy:
            print(f'{model}: bytes of {policy}', file=sys.stderr)
            by_policy[policy] = {
                'measured': measured_bytes(config, vocabulary),
                'planned': planned_bytes(config),
            }
        found[name] = by_policy[policy]
    return found


def underflow(study: Setting, folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Family -> reference -> weights and logits -> magnitudes of gradients of its first run."""
    return {
        model: {
            name: {
                what: dataclasses.asdict(found)
                for what, found in gradient_range(run_folder(folder, model, name, 0)).items()
            }
            for name in GRADIENTS_OF
        }
        for model in study.families
    }


def main() -> int:
    """Prints the tables on stderr and the result as one JSON object.

    Returns:
      0; 1 where a control did not behave; 2 on a user's error.
    """
    behaved: list[bool] = []

    def run_study(flags: Flags) -> dict[str, Any]:
        result = _run(flags)
        behaved.append(result['controls_behave'])
        return result

    status = run_command('precision', __doc__, _define_flags, run_study)
    return status if all(behaved) else 1


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('gaps_plot', str, '', 'an image of the gaps; empty: none')
    flags.define('underflow_plot', str, '', "an image of the gradients' magnitudes; empty: none")


def _run(flags: Flags) -> dict[str, Any]:
    flags.required('source')
    study = flags.setting(Setting)
    folder = own_folder(flags)
    result = analyze(study, run(study, folder))
    for model, rows in result.items():
        for name, sizes in state_bytes(study, model).items():
            rows[name]['bytes'] = sizes
    controls = [row['behaves'] for rows in result.values() for row in rows.values()]
    told = {
        'setting': dataclasses.asdict(study),
        'families': result,
        'underflow': underflow(study, folder),
        'controls_behave': all(one is not False for one in controls),
    }
    if flags['gaps_plot']:
        plot_gaps(told, flags['gaps_plot'])
    if flags['underflow_plot']:
        plot_underflow(told, flags['underflow_plot'])
    print(f'{table(told)}\n\n{underflow_table(told)}', file=sys.stderr)
    return told


if __name__ == '__main__':
    sys.exit(main())
