"""The page that shows runs side by side: one file of HTML with everything in it."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from lm.report.facts import UNKNOWN, differences, facts, missing
from lm.report.figures import (
    DASHES,
    MOST_DRAWN,
    SMOOTHED_FROM,
    WINDOW,
    Curve,
    as_svg,
    colour,
    dash,
    held_out,
    losses,
    over_steps,
)
from lm.report.recorded import Recorded

CURVES = (
    Curve('learning_rate', 'Learning rate', 'learning rate'),
    Curve('grad_norm', 'Gradient norm', 'norm before clipping', log=True),
    Curve('tokens_per_second', 'Throughput', 'tokens a second'),
    Curve('mfu', 'MFU', 'model FLOPs utilisation, %', unit=100),
    Curve('noise_scale', 'Gradient noise scale', 'rows', log=True),
    Curve('loss_scale', 'Loss scale', 'factor of the loss', log=True),
)
"""What is drawn over steps, where any run tells it."""
LIGHT = ('#0b66b0', '#c8500a', '#0a7f5a', '#a3338a', '#9a7400', '#c0202f', '#5a48c0', '#5b5b5b')
DARK = ('#5db4f5', '#ff9a57', '#3fd0a0', '#ea8fd4', '#e6c04a', '#ff7b85', '#ab9dff', '#b5b5b5')
STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1c1c; --faint: #d9d9d9; --soft: #f4f4f2;
  --quiet: #5c5c5c; LIGHT }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e8e6e3; --faint: #3a3d42;
  --soft: #202328; --quiet: #a3a3a3; DARK } }
@media print { :root { --page: #fff; --ink: #000; --faint: #ccc; --soft: #fff; --quiet: #444; LIGHT
  color-scheme: light } }
body { background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 78rem; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.5rem; margin: 0 0 .6rem } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; padding: 0; list-style: none;
  position: sticky; top: 0; background: var(--page); margin: 0; padding: .4rem 0;
  border-bottom: 1px solid var(--faint) }
.legend svg { width: 2.4rem; height: .8rem; margin-right: .4rem; vertical-align: middle }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr));
  gap: 1rem }
figure { margin: 0; break-inside: avoid } figure svg { width: 100%; height: auto; max-width: 40rem }
figcaption, .quiet { color: var(--quiet); font-size: .88rem }
svg text { font-family: system-ui, sans-serif !important }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid var(--faint); min-width: 8rem; max-width: 24rem;
  overflow-wrap: anywhere }
th { font-weight: 600 } td { font-variant-numeric: tabular-nums }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .8rem;
  border-radius: 4px; margin: .3rem 0 1rem } pre b { font-weight: 600 }
@media print { body { font-size: 10pt; max-width: none; padding: 0 } .legend { position: static }
  .wide { overflow: visible } th, td { min-width: 0; font-size: 8pt; padding-right: .5rem }
  tr, pre { break-inside: avoid } .grid {
  grid-template-columns: 1fr 1fr } }
"""


class Sample(NamedTuple):
    """What a run's model makes of the prompt.

    Attributes:
      text: the prompt and what it adds; where it has none, why.
      told: whether there is a text.
    """

    text: str
    told: bool


def page(runs: Sequence[Recorded], prompt: str = '', samples: Sequence[Sample] = ()) -> str:
    """The page.

    Args:
      runs: one at the least, each with another label.
      prompt: what the samples begin with.
      samples: one a run; none: samples were not asked for.
    """
    labels = [run.label for run in runs]
    title = f'{len(runs)} runs' if len(runs) > 1 else labels[0]
    parts = [
        f'<h1>{html.escape(title)}</h1>',
        _legend(labels),
        _section('To know', _notes(runs)),
        _section('The runs', _facts(runs)),
        *_loss_sections(runs),
        _section('Along the way', _along_the_way([*enumerate(runs)])),
        _section('Where the configs differ', _config(runs)),
    ]
    if samples:
        parts.append(_section('Samples', _samples(labels, prompt, samples)))
    style = STYLE.replace('LIGHT', _colours(LIGHT)).replace('DARK', _colours(DARK))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{html.escape(title)} - lm report</title><style>{style}</style></head>\n'
        f'<body>\n{"".join(parts)}</body></html>\n'
    )


def _colours(colours: Iterable[str]) -> str:
    return ' '.join(f'--run{i}: {colour};' for i, colour in enumerate(colours))


def _section(title: str, content: str) -> str:
    return f'<section><h2>{html.escape(title)}</h2>\n{content}\n</section>\n'


def _legend(labels: Sequence[str]) -> str:
    dashes = dict(zip(DASHES, ('none', '6 3', '7 3 2 3', '2 3'), strict=True))
    items = [
        '<li><svg viewBox="0 0 38 12" aria-hidden="true"><line x1="0" x2="38" y1="6" y2="6" '
        f'stroke="var(--run{int(colour(i)[5:], 16)})" stroke-width="3" '
        f'stroke-dasharray="{dashes[dash(i)]}"/></svg>{html.escape(label)}</li>'
        for i, label in enumerate(labels)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def _notes(runs: Sequence[Recorded]) -> str:
    notes = [f'{run.label}: {words}.' for run in runs for words in missing(run)]
    if len({run.config.objective.name for run in runs}) > 1:
        notes.append(
            'The runs have different objectives. Their losses are of different tasks and not to be '
            'compared, so each objective has pictures of its own.'
        )
    texts = {(run.config.data.names, run.config.data.tokenizer, run.config.model.vocab_size)
             for run in runs}  # fmt: skip
    if len(texts) > 1:
        notes.append(
            'The runs differ in text or tokens. A loss is per token: of runs on one text with '
            'different tokens compare bits per byte, of runs on different texts neither.'
        )
    longest = max(len(run.metrics) for run in runs)
    if longest > MOST_DRAWN:
        notes.append(
            f'Up to {longest:,} rows a run. Of a line with more than {MOST_DRAWN} the lowest and '
            f'the highest row of each of {MOST_DRAWN // 2} equal stretches are drawn, no other.'
        )
    if longest >= SMOOTHED_FROM:
        notes.append(
            f'Training loss: thin every row, thick the mean over the {100 // WINDOW} % of the '
            'rows around each.'
        )
    notes.append(
        'Held-out loss: rings are scores of a part of the held-out text (eval.batches), dots of '
        f'all of it. {UNKNOWN} in a table: the run does not tell.'
    )
    return f'<ul>{"".join(f"<li>{html.escape(note)}</li>" for note in notes)}</ul>'


def _table(labels: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    head = ''.join(f'<th>{html.escape(label)}</th>' for label in labels)
    body = ''.join(
        f'<tr><th>{html.escape(name)}</th>'
        + ''.join(f'<td>{html.escape(text)}</td>' for text in texts)
        + '</tr>\n'
        for name, texts in rows.items()
    )
    return (
        f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead>\n'
        f'<tbody>{body}</tbody></table></div>'
    )


def _loss_sections(runs: Sequence[Recorded]) -> list[str]:
    """Pictures of losses for each objective: only those are of the same task."""
    sections = []
    objectives = list(dict.fromkeys(run.config.objective.name for run in runs))
    for objective in objectives:
        group = [(i, r) for i, r in enumerate(runs) if r.config.objective.name == objective]
        pictures = {
            f'{title} against {words}': draw(group, axis)
            for title, draw in (('Loss', losses), ('Held-out loss', held_out))
            for axis, words in (('tokens', 'tokens'), ('flops', 'FLOPs'), ('seconds', 'time'))
        }
        title = f'Loss ({objective})' if len(objectives) > 1 else 'Loss'
        sections.append(_section(title, _pictures(f'{objective}-loss', pictures)))
    return sections


def _along_the_way(runs: Sequence[tuple[int, Recorded]]) -> str:
    return _pictures('steps', {curve.title: over_steps(runs, curve) for curve in CURVES})


def _pictures(name: str, pictures: Mapping[str, Figure | None]) -> str:
    """Those pictures that there are, and the names of those that there are not."""
    drawn = [
        f'<figure><figcaption>{html.escape(title)}</figcaption>\n{as_svg(figure, f"{name}-{i}")}'
        '</figure>\n'
        for i, (title, figure) in enumerate(pictures.items())
        if figure is not None
    ]
    none = [title for title, figure in pictures.items() if figure is None]
    return f'<div class="grid">{"".join(drawn)}</div>' + _nobody_tells(none)


def _nobody_tells(names: Sequence[str]) -> str:
    words = html.escape('; '.join(names))
    return f'<p class="quiet">Not told by any run: {words}.</p>' if names else ''


def _facts(runs: Sequence[Recorded]) -> str:
    table = facts(runs)
    told = {name: row for name, row in table.items() if {*row} != {UNKNOWN}}
    return _table([run.label for run in runs], told) + _nobody_tells(
        [*filter(lambda name: name not in told, table)]
    )


def _config(runs: Sequence[Recorded]) -> str:
    rows = differences(runs)
    if rows:
        return _table([run.label for run in runs], rows)
    return '<p>Nowhere.</p>' if len(runs) > 1 else '<p>There is one run.</p>'


def _samples(labels: Sequence[str], prompt: str, samples: Sequence[Sample]) -> str:
    parts = []
    for label, sample in zip(labels, samples, strict=True):
        text = html.escape(sample.text)
        if sample.told and sample.text.startswith(prompt):
            text = f'<b>{html.escape(prompt)}</b>{html.escape(sample.text[len(prompt) :])}'
        parts.append(f'<h3>{html.escape(label)}</h3><pre>{text}</pre>')
    return ''.join(parts)
