"""Does a small encoder-decoder use what it is given? Translations and summaries, inputs exchanged.

Command: python -m experiments.text_pairs --english=xquad.en.json --german=xquad.de.json
    --summaries=all_v1.json --workdir=DIR
Hardware: 2 CPU cores.
Time: four minutes a run on an idle machine; six runs.
Expected: a thousand translated questions and four hundred clauses teach no language: the answers
    are no better than copying the input or its first words. But the loss on held-out pairs is
    lower than with the inputs of others in their place, so what is given is read.

A T5 of two layers on each side learns each task from nothing (`objective.name=text_to_text`), with
three seeds; articles and contracts are held out whole. Beside its answers stand two that need no
model: the input itself (`copy`), and of its first words as many as a target has in the mean
(`lead`). `gap` is the loss with exchanged inputs less that with their own, nats a target token,
with Student's 95 % interval over seeds; it must be above 0. chrF is sacreBLEU's and ROUGE
rouge-score's (extra `tasks`).
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm
from lm import processes
from lm.config import Config, require, setting
from lm.evaluation.example_file import score_examples
from lm.evaluation.examples import Answer
from lm.evaluation.tasks.text_to_text import measures
from lm.flags import Flags

from ._command import own_folder, run_command
from ._paired import gap_of
from ._text_pairs import (
    Pair,
    divided,
    exchanged,
    read_summaries,
    read_translations,
    write_pairs,
)

MEASURES = {'translation': ('chrf', 'bleu'), 'summary': ('rouge1', 'rougeL')}
SIZES = {'translation': (64, 64), 'summary': (256, 64)}
"""Places of the encoder's rows and of the decoder's; what is longer is cut, and counted."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    english: str = setting('', "XQuAD's English file")
    german: str = setting('', 'the same in German')
    summaries: str = setting('', 'clauses of contracts with their summaries')
    seeds: int = setting(3, 'runs of each task, with the seeds 0, 1, ...')
    steps: int = setting(400, 'of each run')
    batch_size: int = setting(16, 'pairs a step')
    d_model: int = setting(128, 'width of the model')
    vocab_size: int = setting(2000, 'tokens of the common tokenizer of a task')
    peak_lr: float = setting(2e-3, 'learning rate')

    def __post_init__(self) -> None:
        for name in ('seeds', 'steps'):
            require(getattr(self, name) >= 1, f'{name}={getattr(self, name)}: must be at least 1')


def config_of(task: str, seed: int, train: Path, held_out: Path, study: Setting) -> Config:
    """A run on the pairs of a task."""
    seq_len, target_len = SIZES[task]
    return lm.load_config(
        't5_tiny',
        **{
            'model.d_model': study.d_model,
            'model.num_layers': 2,
            'model.dropout': 0.1,
            'model.vocab_size': study.vocab_size,
            'model.max_positions': seq_len,
            'objective.name': 'text_to_text',
            'objective.options.target_len': target_len,
            'objective.options.truncate': True,
            'data.source': str(train),
            'data.validation_source': str(held_out),
            'optim.peak_lr': study.peak_lr,
            'optim.warmup_steps': max(study.steps // 10, 1),
            'train.steps': study.steps,
            'train.batch_size': study.batch_size,
            'train.seq_len': seq_len,
            'train.seed': seed,
            'eval.every_steps': 10**9,
            'eval.sample_tokens': 0,
            'checkpoint.every_steps': 10**9,
        },
    )


def without_a_model(task: str, pairs: dict[str, list[Pair]]) -> dict[str, dict[str, float]]:
    """The measures of the input itself, and of its first words."""
    words = round(statistics.mean(len(pair.target.split()) for pair in pairs['train']))

    def measured(said: Sequence[str]) -> dict[str, float]:
        found = [Answer(p.target, text) for p, text in zip(pairs['held_out'], said, strict=True)]
        return measures(found, MEASURES[task])

    given = [pair.input for pair in pairs['held_out']]
    return {
        'copy': measured(given),
        'lead': measured([' '.join(text.split()[:words]) for text in given]),
    }


def study_of(task: str, pairs: Sequence[Pair], folder: Path, study: Setting) -> dict[str, Any]:
    """The runs of a task, and what they say to what is held out."""
    parts = divided(pairs)
    parts['exchanged'] = exchanged(parts['held_out'])
    paths = write_pairs(folder / task, parts)
    own, others, scores = [], [], []
    for seed in range(study.seeds):
        run = folder / task / f'seed{seed}'
        processes.tell(f'lm: {task}, seed {seed}')
        lm.train(config_of(task, seed, paths['train'], paths['held_out'], study), run)
        model = lm.load(run)
        told = {
            name: score_examples(model, str(paths[name]), batch_size=32, measures=MEASURES[task])[0]
            for name in ('held_out', 'exchanged')
        }
        own.append(told['held_out']['loss'])
        others.append(told['exchanged']['loss'])
        scores.append({name: told['held_out'][name] for name in MEASURES[task]})
    gap = gap_of([b - a for a, b in zip(own, others, strict=True)])
    return {
        'pairs': {name: len(part) for name, part in parts.items()},
        'loss': own,
        'loss_exchanged': others,
        'gap': None if gap is None else {'mean': gap.mean, 'low': gap.low, 'high': gap.high},
        'model': {n: statistics.mean(s[n] for s in scores) for n in MEASURES[task]},
        **without_a_model(task, parts),
    }


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")


def _run(flags: Flags) -> dict[str, Any]:
    folder, study = own_folder(flags), flags.setting(Setting)
    tasks: dict[str, list[Pair]] = {}
    if study.english or study.german:
        tasks['translation'] = read_translations(
            flags.required('english'), flags.required('german')
        )
    if study.summaries:
        tasks['summary'] = read_summaries(study.summaries)
    require(bool(tasks), '--english: missing; give it with --german, or --summaries')
    return {task: study_of(task, pairs, folder, study) for task, pairs in tasks.items()}


def main() -> int:
    """Prints what was found as one JSON object."""
    return run_command('text_pairs', __doc__, _define_flags, _run)


if __name__ == '__main__':
    sys.exit(main())
