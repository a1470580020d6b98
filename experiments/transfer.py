"""What pre-training is worth on labels: fine-tuned from a checkpoint, and from scratch.

Command: python -m experiments.transfer --source='FOLDER/rt-polarity.*' --documents=line
    --encoding=latin-1 --init_from=HF_FOLDER --workdir=DIR [--torch] [--seeds=5]
    python -m experiments.transfer --objective=token_classification --source=wnut17train.conll
    --validation_source=emerging.dev.conll --init_from=HF_FOLDER --workdir=DIR [--torch]
Hardware: 2 CPU cores.
Time: about 10 minutes a run of one epoch (MiniLM, 9,600 sentences), as much again with `--torch`.
Expected: MiniLM, whose pre-training was of sentences, comes to 0.84 of the held-out sentences; the
    same model from scratch stays near naive Bayes (0.77) or below. Ours and torch's, of the same
    weights and batches without dropout, lose the same to the third decimal for 50 steps, and end
    within a point of each other.

Every seed is a pair of runs, alike but for where they begin: the same rows in the same order. With
`--torch` a third of each seed: transformers and torch begin with the weights that ours began with,
its new head included, and take the same batches; `--dropout=0` makes the two comparable step by
step. Intervals are Student's, over seeds. Without `--validation_source` a
tenth of the records is held out, by name. The score is the task's first measure: accuracy, or F1 of
entities.
"""

import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm
from lm import processes
from lm.batch import Batch
from lm.config import Config, require, setting
from lm.data.mixture import prepare_mixture
from lm.data.pipeline import batches
from lm.evaluation.examples import Examined, answers_of, measures_of
from lm.flags import Flags
from lm.generation.language_model import LanguageModel
from lm.hub.export import write_model
from lm.objectives._labelled import example_codec
from lm.resolution import override
from lm.training.evaluate import mixed_rows, packed_rows
from lm.training.found_labels import with_labels
from lm.training.origin import fresh
from lm.training.program import resolve_policy
from lm.training.run_program import run_program
from lm.training.workdir import read_jsonl

from ._command import own_folder, run_command
from ._paired import gap_of
from ._torch_labels import Recipe, fine_tuned

ARMS = ('pretrained', 'scratch')
OBJECTIVES: dict[str, dict[str, Any]] = {
    'sequence_classification': {'objective.options.truncate': True},
    'token_classification': {},
}
"""Whose labels are learnt, and what is set for each."""
COMPARED = 50
"""Steps whose losses are compared one by one."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    source: str = setting('', 'labelled text, as data.source')
    validation_source: str = setting('', 'held out instead of a tenth, as data.validation_source')
    objective: str = setting('sequence_classification', 'or token_classification')
    documents: str = setting('file', 'what one text is, as data.documents')
    encoding: str = setting('utf-8', 'of the text, as data.encoding')
    init_from: str = setting('', 'the pre-trained encoder: a Hugging Face folder or a run')
    seeds: int = setting(5, 'runs of each arm, with the seeds 0, 1, ...')
    epochs: float = setting(1.0, 'of the training part')
    batch_size: int = setting(32, 'examples a step')
    seq_len: int = setting(64, 'places of a row; longer texts are cut, and counted; sentences not')
    peak_lr: float = setting(1e-4, 'learning rate of both arms')
    dropout: float = setting(0.0, 'of both arms')
    scratch: bool = setting(True, 'run the arm from scratch too')
    torch: bool = setting(False, 'train transformers on the same weights and batches too')

    def __post_init__(self) -> None:
        require(self.seeds >= 1, f'seeds={self.seeds}: must be at least 1')
        require(self.epochs > 0, f'epochs={self.epochs}: must be positive')
        require(
            self.objective in OBJECTIVES,
            f'objective={self.objective}: must be one of {", ".join(OBJECTIVES)}',
        )


def configs(study: Setting) -> dict[str, Config]:
    """The runs by the names of their folders.

    Raises:
      UserError: the model or the text refuses.
    """
    given = lm.load(study.init_from).config
    model = {
        f'model.{name}': getattr(given.model, name)
        for name in ('num_layers', 'd_model', 'num_heads', 'd_ff', 'vocab_size', 'max_positions',
                     'vocab_multiple')
    }  # fmt: skip
    base = lm.load_config(
        'bert_tiny',
        **{
            **model,
            'model.dropout': study.dropout,
            'objective.name': study.objective,
            **OBJECTIVES[study.objective],
            'data.source': study.source,
            'data.validation_source': study.validation_source,
            'data.documents': study.documents,
            'data.encoding': study.encoding,
            'data.tokenizer': study.init_from,
            'optim.peak_lr': study.peak_lr,
            'optim.weight_decay': 0.01,
            'optim.final_lr_fraction': 0.0,
            'train.seq_len': study.seq_len,
            'train.batch_size': study.batch_size,
            'train.log_every_steps': 1,
            'eval.every_steps': 10**9,
            'checkpoint.every_steps': 10**9,
        },
    )
    steps = _steps(base, study)
    runs = {}
    for seed in range(study.seeds):
        for arm in ARMS if study.scratch else ARMS[:1]:
            runs[f'{arm}-seed{seed}'] = override(
                base,
                {
                    'train.steps': steps,
                    'train.seed': seed,
                    'optim.warmup_steps': max(steps // 10, 1),
                    'checkpoint.init_from': study.init_from if arm == 'pretrained' else '',
                },
            )
    return runs


def _steps(config: Config, study: Setting) -> int:
    """Steps of so many epochs, rounded down."""
    mixture = prepare_mixture(config.data, config.model.vocab_size, example_codec(config))
    examples = mixture.parts[0].train.documents
    return max(1, int(study.epochs * examples / study.batch_size))


def with_torch(config: Config) -> dict[str, Any]:
    """What transformers makes of a run: losses of its steps, and its measures."""
    mixture = prepare_mixture(config.data, config.model.vocab_size, example_codec(config))
    config = resolve_policy(with_labels(config, mixture))
    program = run_program(config, mixture)
    size, objective = config.train.batch_size, program.objective
    rows = mixed_rows(objective, mixture, config.train.seed)
    held_out = packed_rows(objective, mixture.parts[0], config.train.seed, held_out=True)

    def taken(source: Any, stop_row: int) -> Iterator[Batch]:
        return batches(
            source, objective.example, batch_size=size, start_row=0, stop_row=stop_row,
            seed=config.train.seed, threads=1,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as kept, contextlib.redirect_stdout(sys.stderr):
        begun = fresh(program, mixture).state.params
        labels = config.objective.options.labels
        write_model(Path(kept), config.model, begun, None, 10**10, labels)
        betas = (config.optim.options.b1, config.optim.options.b2)
        losses, said = fine_tuned(
            Path(kept),
            str(config.model.head),
            taken(rows, size * config.train.steps),
            taken(held_out, held_out.rows_per_epoch),
            Recipe(config.optim, betas, config.train.steps),
        )
    model = LanguageModel(config, program.functional, {}, mixture.tokenizer)
    count = held_out.rows_per_epoch
    answers = answers_of(Examined(model, objective, held_out, count, said[:count]))
    return {'losses': losses, 'measures': measures_of(config, answers)}


def analyze(folder: Path, study: Setting) -> dict[str, Any]:
    """The score of each arm, the gaps between them, and how far ours and torch's losses part."""
    arms: dict[str, list[float]] = {}
    apart: list[float] = []
    for seed in range(study.seeds):
        for arm in ARMS if study.scratch else ARMS[:1]:
            summary = json.loads((folder / f'{arm}-seed{seed}' / 'summary.json').read_text())
            arms.setdefault(arm, []).append(_first(summary['measures']))
        if study.torch:
            theirs = json.loads((folder / f'torch-seed{seed}.json').read_text())
            arms.setdefault('torch', []).append(_first(theirs['measures']))
            ours = read_jsonl(folder / f'pretrained-seed{seed}' / 'metrics.jsonl')
            pairs = zip(ours, theirs['losses'][:COMPARED], strict=False)
            apart.append(max(abs(row['loss'] - loss) for row, loss in pairs))
    told: dict[str, Any] = {
        arm: {'scores': found, 'mean': statistics.mean(found)} for arm, found in arms.items()
    }
    for name, others in (('scratch', 'scratch'), ('torch', 'torch')):
        if others in arms:
            gap = gap_of([a - b for a, b in zip(arms['pretrained'], arms[others], strict=True)])
            if gap is not None:
                told[f'gap_to_{name}'] = {'mean': gap.mean, 'low': gap.low, 'high': gap.high}
    if apart:
        told[f'largest_loss_difference_in_{COMPARED}_steps'] = max(apart)
    return told


def _first(measures: Mapping[str, float]) -> float:
    return next(iter(measures.values()))


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")


def _run(flags: Flags) -> dict[str, Any]:
    folder = own_folder(flags)
    flags.required('source')
    flags.required('init_from')
    study = flags.setting(Setting)
    for name, config in configs(study).items():
        processes.tell(f'lm: {name}')
        lm.train(config, folder / name)
        arm, _, seed = name.partition('-')
        kept = folder / f'torch-{seed}.json'
        if study.torch and arm == 'pretrained' and not kept.exists():
            found = with_torch(config)
            kept.write_text(json.dumps(found))
            processes.tell(f'lm: torch-{seed}: {found["measures"]}')
    return analyze(folder, study)


def main() -> int:
    """Runs the study; see the module's text."""
    return run_command('transfer', __doc__, _define_flags, _run)


if __name__ == '__main__':
    sys.exit(main())
