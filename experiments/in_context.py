"""What does a model learn from its context? Tasks by shots, and two measures against size.

Command: python -m experiments.in_context --source=FILE --workdir=DIR --tasks=FOLDER [--plot=FILE]
Hardware: 2 CPU cores.
Time: 25 minutes on an idle machine at the default setting, two thirds of it training.
Expected: at these sizes no model is above what knows nothing on any task, with any shots: the sum
    takes the shortest choice, as random weights do (`nothing_known`), and examples change little.
    The in-context learning score is within its errors of 0, and random tokens are not copied.

LLaMAs of several widths are trained on the same text and tokens (`lm.train`, rows of `seq_len`), so
that the score of Olsson et al. 2022, the loss at token 500 less that at token 50 of held-out text,
and copying of random tokens that come twice are seen against size. Each is then asked the tasks in
FOLDER (`copa.jsonl`, `openbook_qa.jsonl`, `arc_easy.jsonl`; the first `questions` of each) with 0,
1, ... shots, or as many as fit (`context.shots`). Beside them stand `inits` untrained models of the
smallest width. Intervals are 95 % (Wilson), over questions.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import lm
from lm.config import Config, require, setting
from lm.evaluation.in_context.evaluate import score_task
from lm.evaluation.in_context.records import Question, read_records
from lm.evaluation.in_context.task import read_task
from lm.evaluation.in_context_learning import (
    EARLY,
    LATE,
    in_context_score,
    nats_by_position,
    repeated_copying,
)
from lm.flags import Flags
from lm.generation.language_model import LanguageModel

from ._command import own_folder, run_command
from .loss_by_position import windows

TASKS = ('copa', 'openbook_qa', 'arc_easy')
ACCURACIES = ('accuracy', 'accuracy_per_token', 'accuracy_per_byte')
COPIED = (25, 50, 100)
"""Random tokens that come twice."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    source: str = setting('', 'the text, as data.source')
    tasks: str = setting('', "the folder of the tasks' records; empty: no tasks")
    widths: tuple[int, ...] = setting((32, 64, 128), "the models' widths")
    layers: int = setting(2, 'of each model; copying needs at least 2')
    steps: int = setting(500, 'of each run')
    seq_len: int = setting(512, 'tokens a row, and the context')
    batch_size: int = setting(8, 'rows a step')
    vocab_size: int = setting(1024, 'tokens of the common tokenizer')
    peak_lr: float = setting(3e-3, 'learning rate of every run; not searched')
    seed: int = setting(0, 'of runs and examples')
    shots: tuple[int, ...] = setting((0, 1, 4), 'examples before each question')
    questions: int = setting(200, 'of each task, the first')
    inits: int = setting(10, 'untrained models')

    def __post_init__(self) -> None:
        require(self.seq_len >= LATE, f'seq_len={self.seq_len}: must be at least {LATE}')
        for name in ('layers', 'questions', 'inits'):
            require(getattr(self, name) >= 1, f'{name}={getattr(self, name)}: must be at least 1')
        for name in ('widths', 'shots'):
            require(bool(getattr(self, name)), f'{name}: empty; give numbers with commas')


def configs(study: Setting) -> dict[str, Config]:
    """The runs by the names of their folders, the smallest first: `d32` and so on."""
    return {
        f'd{width}': lm.load_config('quickstart', **{
            'model.name': 'llama', 'model.num_layers': study.layers, 'model.d_model': width,
            'model.num_heads': max(1, width // 16), 'model.vocab_size': study.vocab_size,
            'model.max_positions': study.seq_len, 'model.options.tie_embeddings': True,
            'data.source': study.source, 'train.seq_len': study.seq_len,
            'train.batch_size': study.batch_size, 'train.steps': study.steps,
            'train.seed': study.seed, 'optim.peak_lr': study.peak_lr,
            'eval.every_steps': 10_000, 'checkpoint.every_steps': 10_000,
            'eval.sample_tokens': 0, 'mesh.devices': 1, 'precision.policy': 'fp32',
        })
        for width in sorted(study.widths)
    }  # fmt: skip


def untrained(model: LanguageModel, seeds: int) -> Iterator[LanguageModel]:
    """The same model at as many initialisations."""
    import jax

    init = jax.jit(model.functional.init)
    for seed in range(seeds):
        yield replace(model, params=init(jax.random.key(seed)))


def learning(model: LanguageModel, config: Config) -> dict[str, Any]:
    """The in-context learning score on held-out text, and copying by length."""
    nats_NT = nats_by_position(model, *windows(config))[0]
    fitting = [length for length in COPIED if 2 * length <= model.context]
    return {
        'score': {**in_context_score(nats_NT, EARLY, LATE), 'texts': len(nats_NT)},
        'copying': [repeated_copying(model, length) for length in fitting],
    }


def records(study: Setting) -> dict[str, list[Question]]:
    """The questions of each task.

    Raises:
      UserError: the folder lacks one, or it cannot be read.
    """
    names = TASKS if study.tasks else ()
    files = {name: f'{study.tasks}/{name}.jsonl' for name in names}
    return {
        name: read_records(read_task(name), file, 'tasks').asked for name, file in files.items()
    }


def by_shots(
    models: Sequence[LanguageModel], questions: Mapping[str, list[Question]], study: Setting
) -> dict[str, Any]:
    """Each task's accuracies by shots, the means over models; with the first one's intervals."""
    told: dict[str, Any] = {}
    for name, asked in questions.items():
        task = read_task(name)
        for count in study.shots:
            scores = [
                score_task(
                    model, task, asked, num_shots=count, limit=study.questions, seed=study.seed,
                    shots_that_fit=True, questions_that_fit=True,
                )
                for model in models
            ]  # fmt: skip
            told.setdefault(name, {})[str(count)] = _mean_score(scores)
    return told


def _mean_score(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = scores[0]
    return {
        **{rule: float(np.mean([score[rule] for score in scores])) for rule in ACCURACIES},
        'each': {rule: [score[rule] for score in scores] for rule in ACCURACIES},
        **{key: first[key] for key in ('questions', 'intervals', 'baselines', 'context')},
    }


def analyze(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the models come to, and whether the untrained ones know nothing.

    `nothing_known` is, of each task without shots, whether each untrained model's `accuracy` lies
    within the 95 % interval of the shortest choice's, and how far the mean of their
    `accuracy_per_token` is from chance.
    """
    from lm.evaluation.in_context.baselines import wilson

    nothing = {}
    for name, shots in found['untrained']['tasks'].items():
        score = shots[next(iter(shots))]
        low, high = wilson(score['baselines']['shortest'], score['questions'])
        nothing[name] = {
            'within_shortest': all(low <= hit <= high for hit in score['each']['accuracy']),
            'from_chance': score['accuracy_per_token'] - score['baselines']['chance'],
        }
    return {'models': dict(found), 'nothing_known': nothing}


def plot(told: Mapping[str, Any], path: str) -> None:
    """The score, and copying, against parameters; bars are standard errors."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    trained = [model for name, model in told['models'].items() if name != 'untrained']
    params = [model['params'] for model in trained]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.2))
    scores = [model['learning']['score'] for model in trained]
    left.errorbar(
        params, [s['score'] for s in scores], [s['standard_error'] for s in scores], marker='.'
    )
    left.set_ylabel(f'loss at token {LATE} less at {EARLY}, nats')
    for number, copied in enumerate(trained[0]['learning']['copying']):
        of_all = [model['learning']['copying'][number] for model in trained]
        right.errorbar(
            params, [c['copying'] for c in of_all], [c['standard_error'] for c in of_all],
            marker='.', label=f'{copied["length"]} tokens',
        )  # fmt: skip
    right.set_ylabel('loss of the first copy less the second, nats')
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xscale('log')
        axes.set_xlabel('parameters')
        axes.axhline(0, color='grey', linewidth=0.8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> int:
    """Prints the analysis as one JSON object."""
    return run_command('in_context', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('plot', str, '', 'an SVG or PNG of both measures against size; empty: none')
    flags.define_setting(Setting)


def _run(flags: Flags) -> dict[str, Any]:
    from lm.training.load import load

    flags.required('source')
    study, folder = flags.setting(Setting), own_folder(flags)
    questions = records(study)  # before the runs, so that a mistake is told at once
    found: dict[str, dict[str, Any]] = {}
    models: dict[str, LanguageModel] = {}
    for name, config in configs(study).items():
        print(f'{name}: {config.train.steps} steps', file=sys.stderr)
        summary = lm.train(config, folder / name)
        model = models[name] = load(Path(folder / name))
        found[name] = {
            **{key: summary[key] for key in ('params', 'tokens', 'eval_loss')},
            'learning': learning(model, config),
            'tasks': by_shots([model], questions, study),
        }
    smallest = next(iter(models.values()))
    random = list(untrained(smallest, study.inits))
    found['untrained'] = {
        'params': found[next(iter(models))]['params'],
        'learning': learning(random[0], next(iter(configs(study).values()))),
        'tasks': by_shots(random, questions, replace(study, shots=(0,))),
    }
    told = analyze(found)
    if flags['plot']:
        plot(told, flags['plot'])
    return told


if __name__ == '__main__':
    sys.exit(main())
