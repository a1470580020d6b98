"""What does going on in a domain cost elsewhere, and how much general text keeps it?

Command: python -m experiments.domain_adaptation --general=FILE --law=FILE --medicine=FILE
    --finance=FILE --workdir=DIR [--plot=FILE.svg]
Hardware: 2 CPU cores.
Time: 40 minutes for 36 runs on an idle machine, reckoned from their CPU time.
Expected: the domain's own text costs fewer bits per byte, fewest without replay; the general text
    costs more, with a tenth of replay less than half as much more, with half hardly any.

A small LLaMA is pre-trained on the general text, once with each seed, and goes on in each domain by
`checkpoint.init_from`, its learning rate warmed up again to half the first peak and decayed again
(Ibrahim et al. 2024, "Simple and Scalable Strategies to Continually Pre-train Large Language
Models"), with a share of rows of general text in between: the replay. At every evaluation all of
what is held out is scored, of the domain and of the general text (`eval.sources` where it is not
trained on): bits per byte. Of the same domain two baselines from scratch: `mixture`, 51 % domain
and 49 % general (Wu et al. 2023, "BloombergGPT", table 1), for as many tokens as pre-training and
adaptation have together, and `domain alone`, for as many as the adaptation has.

All runs have one tokenizer, which the training parts of all texts were read for. With one seed all
arms begin with the same parameters; an interval is Student's, over seeds, of paired differences
(`_paired.py`). The task (`_domain_task.py`) is asked of the model before and after.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm
from lm.config import Config, DataConfig, require, setting
from lm.data.mixture import prepare_mixture
from lm.data.prepare import prepare
from lm.flags import Flags
from lm.resolution import override
from lm.training.workdir import Workdir, read_jsonl, write_json

from ._command import own_folder, run_command
from ._domain_report import plot, table
from ._domain_task import (
    CHOICE_TOKENS,
    CHOICES,
    CONTEXT_TOKENS,
    Task,
    accuracy,
    build_task,
)
from ._paired import gap_of

DOMAINS = ('law', 'medicine', 'finance')
MIXTURE, ALONE = 'mixture', 'domain alone'
DOMAIN_SHARE = 0.51
"""Of BloombergGPT's tokens."""


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    general: str = setting('', 'the general text, as data.source')
    law: str = setting('', 'the text of a domain; empty: the domain is left out')
    medicine: str = setting('', 'another')
    finance: str = setting('', 'another')
    documents: str = setting('blank_line', 'what one document of a plain text is')
    validation_fraction: float = setting(0.1, 'documents held out of each text')
    replay: tuple[float, ...] = setting((0.0, 0.1, 0.5), 'shares of general rows in adaptation')
    seeds: int = setting(3, 'pre-training runs, and of each the adaptations; at least 2')
    baseline_seeds: int = setting(1, 'seeds that the baselines from scratch are run with')
    vocab_size: int = setting(4096, 'tokens of the common tokenizer')
    d_model: int = setting(128, 'width')
    num_layers: int = setting(4, 'layers')
    seq_len: int = setting(256, 'tokens a row')
    batch_size: int = setting(8, 'rows a step')
    pretrain_steps: int = setting(500, 'of each pre-training run')
    adapt_steps: int = setting(120, 'of each adaptation')
    evaluations: int = setting(4, 'of each adaptation, the end among them')
    peak_lr: float = setting(2e-3, 'of pre-training and of the baselines')
    adapt_lr: float = setting(1e-3, 'the peak that adaptation is warmed up to')
    questions: int = setting(96, 'of the task of each domain, at most')

    def __post_init__(self) -> None:
        require(self.seeds >= 2, f'seeds={self.seeds}: an interval needs at least 2')
        require(bool(self.domains), 'law, medicine, finance: all empty; give a text of one')
        for share in self.replay:
            require(0 <= share < 1, f'replay: {share}; must be at least 0 and below 1')
        named = {arm_of(share) for share in self.replay}
        require(len(named) == len(self.replay), f'replay={self.replay}: names a share twice')
        require(self.evaluations >= 1, f'evaluations={self.evaluations}: must be at least 1')
        require(
            self.questions >= CHOICES,
            f'questions={self.questions}: must be at least {CHOICES}, from which choices are drawn',
        )
        longest = CONTEXT_TOKENS + CHOICE_TOKENS
        require(
            self.seq_len >= longest,
            f'seq_len={self.seq_len}: a question of the task takes {longest} tokens; give as many',
        )

    @property
    def domains(self) -> dict[str, str]:
        """The texts of the domains that are given, by name."""
        return {name: getattr(self, name) for name in DOMAINS if getattr(self, name)}


def arm_of(replay: float) -> str:
    """The name of the adaptation with this share of general rows: `replay 10%`."""
    return f'replay {100 * replay:g}%'


def pretrained_name(seed: int) -> str:
    """The run that a seed's adaptations begin with."""
    return f'general/seed{seed}'


def run_name(domain: str, arm: str, seed: int) -> str:
    """A run's folder below the study's: `law/replay-10/seed0`."""
    return f'{domain}/{arm.replace(" ", "-").rstrip("%")}/seed{seed}'


def configs(study: Setting, folder: Path) -> dict[str, Config]:
    """The runs by the names of their folders below `folder`, in order: each after its origin."""
    base = lm.load_config(
        'llama_tiny',
        **{
            'model.d_model': study.d_model,
            'model.num_layers': study.num_layers,
            'model.vocab_size': study.vocab_size,
            'model.max_positions': study.seq_len,
            'data.documents': study.documents,
            'data.validation_fraction': study.validation_fraction,
            'data.tokenizer': str(folder / 'tokenizer.model'),
            'train.seq_len': study.seq_len,
            'train.batch_size': study.batch_size,
            'eval.batches': 10**9,
            'eval.sample_tokens': 0,
            'checkpoint.every_steps': 10**9,
            'mesh.devices': 1,
            'precision.policy': 'fp32',
        },
    )
    runs: dict[str, Config] = {}

    def add(name: str, seed: int, steps: int, changes: Mapping[str, Any]) -> None:
        every = max(study.adapt_steps // study.evaluations, 1)
        length = {
            'train.seed': seed,
            'train.steps': steps,
            'optim.warmup_steps': max(steps // 10, 1),
            'optim.peak_lr': study.peak_lr,
            'eval.every_steps': every if steps == study.adapt_steps else 10**9,
        }
        runs[name] = override(base, {**length, **changes})

    whole = study.pretrain_steps + study.adapt_steps
    for seed in range(study.seeds):
        texts = {'data.source': study.general, 'eval.sources': tuple(study.domains.values())}
        add(pretrained_name(seed), seed, study.pretrain_steps, texts)
        begin = {
            'checkpoint.init_from': str(folder / pretrained_name(seed)),
            'optim.peak_lr': study.adapt_lr,
        }
        for domain, text in study.domains.items():
            for replay in study.replay:
                texts = _texts(text, study.general, replay)
                name = run_name(domain, arm_of(replay), seed)
                add(name, seed, study.adapt_steps, {**texts, **begin})
    for seed in range(study.baseline_seeds):
        for domain, text in study.domains.items():
            texts = _texts(text, study.general, 1 - DOMAIN_SHARE)
            add(run_name(domain, MIXTURE, seed), seed, whole, texts)
            texts = _texts(text, study.general, 0)
            add(run_name(domain, ALONE, seed), seed, study.adapt_steps, texts)
    return runs


def _texts(domain: str, general: str, general_share: float) -> dict[str, Any]:
    """What is trained on and what is scored beside it: both texts are scored in any case."""
    if general_share == 0:
        return {'data.source': domain, 'eval.sources': (general,)}
    return {
        'data.sources': (domain, general),
        'data.weights': (round(1 - general_share, 6), round(general_share, 6)),
    }


def write_tokenizer(study: Setting, folder: Path) -> None:
    """The common tokenizer, trained on the training parts of all texts: `tokenizer.model`."""
    data = DataConfig(
        sources=(study.general, *study.domains.values()),
        documents=study.documents,
        validation_fraction=study.validation_fraction,
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = prepare_mixture(data, study.vocab_size).tokenizer
    for name, content in tokenizer.files.items():
        (folder / name).write_bytes(content)


def build_tasks(study: Setting, folder: Path) -> dict[str, Task]:
    """The task of each domain, of its held-out part."""
    tasks = {}
    for domain, text in study.domains.items():
        data = DataConfig(
            source=text,
            documents=study.documents,
            validation_fraction=study.validation_fraction,
            tokenizer=str(folder / 'tokenizer.model'),
        )
        prepared = prepare(data, study.vocab_size)
        tasks[domain] = build_task(prepared.validation, prepared.tokenizer, study.questions)
    return tasks


@dataclass(frozen=True)
class Outcome:
    """What is kept of a run.

    Attributes:
      bits: bits per byte of each text by its `data.source`, at each evaluation.
      steps: of the evaluations.
      scores: of the task of each domain that it is asked of.
    """

    steps: tuple[int, ...]
    bits: dict[str, tuple[float, ...]]
    scores: dict[str, float]


def trained(config: Config, folder: Path, tasks: Mapping[str, Task]) -> Outcome:
    """Trains a run in its folder and asks it the tasks, or reads what came of it before."""
    lm.train(config, folder)
    file = folder / 'tasks.json'
    scores = json.loads(file.read_text()) if file.exists() else {}
    missing = {name: task for name, task in tasks.items() if name not in scores}
    if missing:
        model = lm.load(folder)
        for name, task in missing.items():
            scores[name] = accuracy(model, task, config.train.batch_size)
        write_json(file, scores)
    rows = read_jsonl(Workdir(folder).eval_file)
    return Outcome(
        tuple(row['step'] for row in rows),
        {
            name: tuple(row['by_source'][name]['bits_per_byte'] for row in rows)
            for name in rows[-1]['by_source']
        },
        {name: scores[name] for name in tasks},
    )


def run(study: Setting, folder: Path, tasks: Mapping[str, Task]) -> dict[str, Outcome]:
    """All runs; one of a domain is asked that domain's task, a pre-trained one all."""
    found = {}
    for name, config in configs(study, folder).items():
        print(name, file=sys.stderr)
        domain = name.partition('/')[0]
        asked = {domain: tasks[domain]} if domain in tasks else tasks
        found[name] = trained(config, folder / name, asked)
    return found


def analyze(study: Setting, found: Mapping[str, Outcome]) -> dict[str, Any]:
    """Domain -> arm -> what became of both texts and of the task, with each seed."""
    result: dict[str, Any] = {}
    for domain in study.domains:
        before = _ends(study, domain, [found[pretrained_name(s)] for s in range(study.seeds)])
        adapted = {}
        for replay in study.replay:
            names = [run_name(domain, arm_of(replay), seed) for seed in range(study.seeds)]
            adapted[arm_of(replay)] = _adapted(study, domain, before, [found[n] for n in names])
        scratch = {}
        for arm in (MIXTURE, ALONE):
            names = [run_name(domain, arm, seed) for seed in range(study.baseline_seeds)]
            scratch[arm] = _ends(study, domain, [found[n] for n in names])
        result[domain] = {'before': before, 'adapted': adapted, 'from scratch': scratch}
    return result


def _ends(study: Setting, domain: str, runs: Sequence[Outcome]) -> dict[str, list[float]]:
    """By seed: bits per byte of both texts at the end of the runs, and the task's score."""
    return {
        'target': [one.bits[study.domains[domain]][-1] for one in runs],
        'general': [one.bits[study.general][-1] for one in runs],
        'task': [one.scores[domain] for one in runs],
    }


def _adapted(
    study: Setting, domain: str, before: Mapping[str, list[float]], runs: Sequence[Outcome]
) -> dict[str, Any]:
    """An arm's ends, how far they are from before, and its curves, which begin there."""
    after = _ends(study, domain, runs)
    curves = {}
    for what, text in (('target', study.domains[domain]), ('general', study.general)):
        pairs = zip(before[what], runs, strict=True)
        curves[what] = [[begin, *one.bits[text]] for begin, one in pairs]
    return {
        **after,
        'change': {
            what: _gap([b - a for a, b in zip(before[what], after[what], strict=True)])
            for what in after
        },
        'steps': [0, *runs[0].steps],
        'curves': curves,
    }


def _gap(differences: list[float]) -> dict[str, Any]:
    gap = gap_of(differences)
    assert gap is not None, 'there are at least two seeds'
    return {'mean': gap.mean, 'plus_minus_95': gap.reach, 'seeds': differences}


def main() -> int:
    """Prints the table on stderr and the result as one JSON object."""
    return run_command('domain_adaptation', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('plot', str, '', 'an image of the curves; empty: none')


def _run(flags: Flags) -> dict[str, Any]:
    flags.required('general')
    study = flags.setting(Setting)
    folder = own_folder(flags)
    write_tokenizer(study, folder)
    tasks = build_tasks(study, folder)
    result = analyze(study, run(study, folder, tasks))
    if flags['plot']:
        plot(result, flags['plot'])
    print(table(result), file=sys.stderr)
    questions = {domain: len(task.questions) for domain, task in tasks.items()}
    return {'setting': dataclasses.asdict(study), 'questions': questions, 'domains': result}


if __name__ == '__main__':
    sys.exit(main())
