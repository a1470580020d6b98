"""Which objective learns most from the same FLOPs? Families x objectives, by what all can do.

Command: python -m experiments.objectives --source=FILE --workdir=DIR [--plot=FILE.svg]
Hardware: 2 CPU cores.
Time: 70 s a run on an idle machine, 28 minutes for 8 pairs x 3 seeds at 2.4e12 FLOPs a run.
Expected: causal language modelling is ahead of all others at either place, then its variant with
    a prefix; only these two are below the bigram. At this size the number of targets decides, and
    no model that sees what follows a span gains by it.

Each run is an `lm.train` of a small model of its family (BERT, LLaMA, T5; two layers on each side
of the last) on the same text, tokenizer, rows of tokens and batch, for as many steps as the FLOPs
allow, counted exactly with all of attention. Losses of objectives do not compare, so each is asked
for the log-likelihood of the same held-out spans, in its own form: in the middle of a text, and at
its end. Intervals are Student's, of the mean over seeds; spans are the same for all.
"""

import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lm
from lm.config import Config, require, setting
from lm.data.prepare import Prepared, prepare
from lm.data.store import Store
from lm.evaluation.bigram import Bigram, Pairs, counted, joined
from lm.evaluation.spans import Span, span_nats
from lm.flags import Flags
from lm.objectives._objective import build_objective
from lm.planning.budget import step_flops
from lm.planning.flops import train_flops_exact
from lm.resolution import override
from lm.vocabulary import placeholder

from ._command import own_folder, run_command

PAIRS = (
    ('bert', 'mlm'),
    ('llama', 'clm'),
    ('llama', 'prefix_lm'),
    ('llama', 'ul2'),
    ('t5', 'span_corruption'),
    ('t5', 'denoising'),
    ('t5', 'ul2'),
    ('t5', 'prefix_lm'),
)
"""Every family with every objective that trains it."""
PLACES = ('middle', 'end')
SPECIALS = 2
"""Tokens of a row that may be none of its text: bos and eos."""
_COUNTED_TOKENS = 2_000_000
_TUNED_ON = 10  # every tenth document fits the bigram's weights, the others are counted


@dataclass(frozen=True)
class Setting:
    """The study's size; every field is a flag."""

    source: str = setting('', 'the text, as data.source')
    documents: str = setting('file', 'what one document of a plain text is, as data.documents')
    validation_fraction: float = setting(0.02, 'documents held out')
    flops: float = setting(2.4e12, 'of each run')
    seeds: int = setting(3, 'runs of each pair, with the seeds 0, 1, ...')
    d_model: int = setting(64, 'width of every model')
    vocab_size: int = setting(1024, 'tokens of the common tokenizer')
    seq_len: int = setting(128, 'tokens a row')
    batch_size: int = setting(16, 'rows a step')
    peak_lr: float = setting(2e-3, 'learning rate of every run; not searched')
    spans: int = setting(512, 'held-out texts, of each of which a span is asked for at each place')
    text_tokens: int = setting(88, 'tokens of such a text: no more than a row of any objective has')
    span_tokens: int = setting(5, 'tokens of a span')

    def __post_init__(self) -> None:
        for name in ('seeds', 'spans', 'span_tokens'):
            require(getattr(self, name) >= 1, f'{name}={getattr(self, name)}: must be at least 1')


def configs(study: Setting) -> dict[str, Config]:
    """The runs by the names of their folders.

    Raises:
      UserError: the FLOPs are less than a step of some pair takes, or texts longer than its rows.
    """
    runs = {}
    for model, objective in PAIRS:
        config = lm.load_config(
            f'{model}_tiny',
            **{
                'model.d_model': study.d_model,
                'model.vocab_size': study.vocab_size,
                'model.max_positions': study.seq_len,
                'objective.name': objective,
                'data.source': study.source,
                'data.documents': study.documents,
                'data.validation_fraction': study.validation_fraction,
                'optim.peak_lr': study.peak_lr,
                'optim.eps': 1e-8,
                'optim.weight_decay': 0.1,
                'train.seq_len': study.seq_len,
                'train.batch_size': study.batch_size,
                'eval.every_steps': 10**9,
                'eval.sample_tokens': 0,
                'checkpoint.every_steps': 10**9,
            },
        )
        flops = step_flops(config, train_flops_exact)
        steps = int(study.flops // flops)
        require(
            steps >= 1,
            f'flops={study.flops:g}: a step of {model} with {objective} takes {flops:g}',
        )
        # A longer text than it is trained on would ask for places that it has never seen.
        most = build_objective(config, placeholder(study.vocab_size)).row_len - SPECIALS
        require(
            study.text_tokens <= most,
            f'text_tokens={study.text_tokens}: rows of {model} with {objective} hold {most}; give '
            'no more, or a longer seq_len',
        )
        for seed in range(study.seeds):
            changes = {
                'train.steps': steps,
                'train.seed': seed,
                'optim.warmup_steps': max(steps // 10, 1),
            }
            runs[f'{model}-{objective}-seed{seed}'] = override(config, changes)
    return runs


def held_out_spans(store: Store, study: Setting) -> dict[str, list[Span]]:
    """Spans in the middle and at the end of the same texts, which begin a document each.

    Raises:
      UserError: too few documents are long enough.
    """
    length = study.text_tokens
    long_enough = np.flatnonzero(store.lengths >= length)
    require(
        len(long_enough) > 0 and study.span_tokens < length // 2,
        f'source={study.source}: no held-out document of {length} tokens for spans of '
        f'{study.span_tokens}; take a larger text, fewer text_tokens or span_tokens',
    )
    count = int(store.lengths.sum()) // length
    require(
        count >= study.spans,
        f'spans={study.spans}: the held-out text has {count} stretches of {length} tokens',
    )
    texts = []
    for document in long_enough.tolist():
        for begin in range(0, int(store.lengths[document]) - length + 1, length):
            texts.append(store.read(document, begin, begin + length))
    chosen = np.linspace(0, len(texts) - 1, min(study.spans, len(texts))).astype(int)
    starts = {'middle': (length - study.span_tokens) // 2, 'end': length - study.span_tokens}
    return {
        place: [Span(texts[i], start, start + study.span_tokens) for i in chosen]
        for place, start in starts.items()
    }


def run(runs: Mapping[str, Config], folder: Path, study: Setting) -> dict[str, dict[str, Any]]:
    """Trains each run in its folder, or goes on with it; what it read, and its spans' nats."""
    found = {}
    for name, config in runs.items():
        print(name, file=sys.stderr)
        summary = lm.train(config, folder / name)
        model = lm.load(folder / name)
        prepared = prepare(model.config.data, model.config.model.vocab_size)
        objective = build_objective(model.config, prepared.tokenizer.vocabulary)
        nats = {
            place: span_nats(model, objective, spans, study.batch_size)
            for place, spans in held_out_spans(prepared.validation, study).items()
        }
        [account] = summary['data'].values()
        found[name] = {
            'params': summary['params'],
            'steps': config.train.steps,
            'flops': study.flops,
            'tokens_trained_on': account['tokens']['trained_on'],
            'targets': account['tokens']['targets'],
            'eval_loss': summary['eval_loss'],
            'nats_per_token': {
                place: float(total.mean()) / study.span_tokens for place, total in nats.items()
            },
        }
    return found


def bigram_nats(prepared: Prepared, study: Setting) -> dict[str, float]:
    """Nats a token that a bigram model of the training text gives the same spans."""
    bigram = _fitted(prepared)
    return {
        place: bigram.nats(
            joined(
                [
                    Pairs(text[a - 1 : b - 1].astype(np.int64), text[a:b].astype(np.int64))
                    for text, a, b in spans
                ]
            )
        )
        / (len(spans) * study.span_tokens)
        for place, spans in held_out_spans(prepared.validation, study).items()
    }


def _fitted(prepared: Prepared) -> Bigram:
    store, taken = prepared.train, 0
    parts: tuple[list[Pairs], list[Pairs]] = ([], [])
    for document in np.flatnonzero(store.lengths > 1).tolist():
        text = store.read(document, 0, int(store.lengths[document])).astype(np.int64)
        parts[document % _TUNED_ON == 0].append(Pairs(text[:-1], text[1:]))
        taken += len(text)
        if taken >= _COUNTED_TOKENS:
            break
    require(bool(parts[0] and parts[1]), 'source: too little text for a bigram')
    return counted(joined(parts[0]), prepared.tokenizer.vocabulary.size).tuned(joined(parts[1]))


def analyze(found: Mapping[str, Mapping[str, Any]], bigram: Mapping[str, float]) -> dict[str, Any]:
    """Each pair's mean over its seeds and 95 % interval, at both places, beside the bigram's."""
    rows: dict[str, Any] = {}
    for model, objective in PAIRS:
        seeds = [one for name, one in found.items() if name.startswith(f'{model}-{objective}-')]
        first = seeds[0]
        rows[f'{model} {objective}'] = {
            **{k: first[k] for k in ('params', 'steps', 'tokens_trained_on', 'targets')},
            'eval_loss': statistics.mean(one['eval_loss'] for one in seeds),
            **{
                place: _interval([one['nats_per_token'][place] for one in seeds])
                for place in PLACES
            },
        }
    return {'bigram': dict(bigram), 'pairs': rows}


def _interval(values: list[float]) -> dict[str, Any]:
    """Mean, values, and Student's 95 % interval of the mean; of one value there is none."""
    from scipy import stats

    mean, reach = statistics.mean(values), None
    if len(values) > 1:
        quantile = float(stats.t.ppf(0.975, len(values) - 1))
        reach = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return {'nats': mean, 'seeds': values, 'plus_minus_95': reach}


def table(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    head = '| | params | steps | text tokens | targets | nats a token, middle | end | loss |'
    lines = [head, '|---' * 8 + '|']
    for name, row in result['pairs'].items():
        places = ' | '.join(_words(row[place]) for place in PLACES)
        lines.append(
            f'| {name} | {row["params"]:,} | {row["steps"]} | {row["tokens_trained_on"]:,} | '
            f'{row["targets"]:,} | {places} | {row["eval_loss"]:.3f} |'
        )
    places = ' | '.join(f'{result["bigram"][place]:.3f}' for place in PLACES)
    return '\n'.join([*lines, f'| bigram | | | | | {places} | |'])


def _words(interval: Mapping[str, Any]) -> str:
    reach = interval['plus_minus_95']
    return f'{interval["nats"]:.3f}' + ('' if reach is None else f' ± {reach:.3f}')


def plot(result: Mapping[str, Any], path: str) -> None:
    """Both places as points with intervals, a line a pair."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    rows = result['pairs']
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for place, shift, color in (('middle', -0.12, 'C0'), ('end', 0.12, 'C1')):
        axes.errorbar(
            [row[place]['nats'] for row in rows.values()],
            [i + shift for i in range(len(rows))],
            xerr=[row[place]['plus_minus_95'] or 0 for row in rows.values()],
            fmt='o', color=color, capsize=3, label=f'{place} of the text',
        )  # fmt: skip
        axes.axvline(result['bigram'][place], color=color, linestyle=':', label=f'bigram, {place}')
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel('nats a token of held-out spans')
    axes.legend(fontsize='small')
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def main() -> int:
    """Prints the table on stderr and the result as one JSON object."""
    return run_command('objectives', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define_setting(Setting)
    flags.define('workdir', str, '', "the folder of the runs' folders")
    flags.define('plot', str, '', 'an image of the result; empty: none')


def _run(flags: Flags) -> dict[str, Any]:
    flags.required('source')
    study = flags.setting(Setting)
    runs = configs(study)
    found = run(runs, own_folder(flags), study)
    first = next(iter(runs.values()))
    result = analyze(found, bigram_nats(prepare(first.data, first.model.vocab_size), study))
    if flags['plot']:
        plot(result, flags['plot'])
    print(table(result), file=sys.stderr)
    return result


if __name__ == '__main__':
    sys.exit(main())
