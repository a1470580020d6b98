"""What each run is and came to, in words: the rows of the report's tables. Imports no jax."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lm.config import Config
from lm.fields import flatten, sections
from lm.planning.devices import PF_DAY
from lm.report.recorded import Recorded

UNKNOWN = '—'
"""Stands where a run does not tell."""

Fact = Callable[[Recorded], str | None]


def facts(runs: Sequence[Recorded]) -> dict[str, list[str]]:
    """A row for each fact, with a text for each run."""
    return {
        name: [UNKNOWN if (text := fact(run)) is None else text for run in runs]
        for name, fact in (FACTS | _by_source(runs)).items()
    }


def differences(runs: Sequence[Recorded]) -> dict[str, list[str]]:
    """The fields of the config in which the runs differ, by dotted path: a text for each run."""
    flat = [flatten(run.config) for run in runs]
    paths = dict.fromkeys(path for fields in flat for path in fields)
    order = [*sections(Config())]
    table = {
        path: [_value(fields, path) for fields in flat]
        for path in sorted(paths, key=lambda path: order.index(path.partition('.')[0]))
    }
    return {path: row for path, row in table.items() if len({*row}) > 1}


def state(run: Recorded) -> str:
    """How far the run has come."""
    steps = run.config.train.steps
    if _is_converted(run):
        return 'converted from elsewhere, not trained here'
    if run.summary is None:
        return f'at step {run.step:,} of {steps:,}: under way, or stopped'
    if run.summary.get('stopped_by') == 'hours':
        return f'ended by train.hours at step {run.step:,} of {steps:,}'
    return f'ended at step {run.step:,}'


def missing(run: Recorded) -> list[str]:
    """What the run's folder does not tell, in a sentence each."""
    if _is_converted(run):
        return ['converted, not trained here: no curves, no losses']
    found = []
    if run.summary is None:
        found.append('no summary.json: the figures are those of the last rows so far')
    if not len(run.metrics):
        found.append('no rows in metrics.jsonl: no curves')
    if not len(run.held_out):
        found.append('no rows in eval.jsonl: no held-out loss')
    if run.flops_per_step is None:
        found.append(
            f'FLOPs not known: model.name={run.config.model.name} has no closed form, and there '
            'is no summary.json that tells them'
        )
    return found


def _told(run: Recorded, name: str) -> Any:
    """A value of summary.json; None where there is none."""
    return None if run.summary is None else run.summary.get(name)


def _formatted(value: float | None, form: str) -> str | None:
    return None if value is None else format(value, form)


def _model(run: Recorded) -> str:
    model = run.config.model
    return f'{model.name}, {model.num_layers} layers, width {model.d_model}'


def _is_converted(run: Recorded) -> bool:
    return run.folder.conversion_file.exists()


def _text(run: Recorded) -> str | None:
    return None if _is_converted(run) else ', '.join(run.config.data.names)


def _parameters(run: Recorded) -> str | None:
    told = _told(run, 'params'), _told(run, 'params_non_embedding')
    if told[0] is None and run.counted is not None:
        told = run.counted[0].total, run.counted[0].non_embedding
    return None if told[0] is None else f'{told[0]:,} ({told[1]:,} without embeddings)'


def _tokens(run: Recorded) -> str | None:
    told = _told(run, 'tokens')
    return _formatted(run.metrics.last('tokens') if told is None else told, ',.0f')


def _flops(run: Recorded) -> float | None:
    if run.flops_per_step is None or not run.step:
        return None
    return run.flops_per_step * run.step


def _flops_text(run: Recorded) -> str | None:
    flops = _flops(run)
    return None if flops is None else f'{flops:.4g} = {flops / PF_DAY:.3g} PF-days'


def _rule(run: Recorded) -> str | None:
    if run.summary is None and run.counted is not None:
        return run.counted[1].rule
    return _told(run, 'flops_rule')


def _final_loss(run: Recorded) -> str | None:
    told = _told(run, 'final_loss')
    return _formatted(run.metrics.last('loss') if told is None else told, '.4f')


def _held_out_loss(run: Recorded) -> str | None:
    told = _told(run, 'eval_loss')
    if told is not None:
        return f'{told:.4f}'
    so_far = run.held_out.last('loss')
    return None if so_far is None else f'{so_far:.4f} (step {run.held_out.steps[-1]:,}, a part)'


def _median(run: Recorded, name: str, form: str) -> str | None:
    known = run.metrics[name][np.isfinite(run.metrics[name])]
    return format(float(np.median(known)), form) if len(known) else None


def _memory(run: Recorded) -> str | None:
    told = _told(run, 'peak_device_bytes')
    return None if told is None else f'{told / 2**30:.2f} GiB'


def _dtypes(run: Recorded) -> str | None:
    told: Mapping[str, str] | None = _told(run, 'dtypes')
    return None if told is None else ', '.join(f'{name} {kind}' for name, kind in told.items())


def _by_source(runs: Sequence[Recorded]) -> dict[str, Fact]:
    """A fact for each source of text of which a mixture tells a held-out loss."""

    def loss_of(source: str) -> Fact:
        return lambda run: _formatted(
            (_told(run, 'eval_by_source') or {}).get(source, {}).get('loss'), '.4f'
        )

    sources = dict.fromkeys(s for run in runs for s in _told(run, 'eval_by_source') or {})
    return {f'held-out loss of {source}': loss_of(source) for source in sources}


def _value(fields: Mapping[str, Any], path: str) -> str:
    if path not in fields:
        return UNKNOWN
    value = fields[path]
    return ', '.join(map(str, value)) if isinstance(value, tuple) else str(value)


FACTS: dict[str, Fact] = {
    'folder': lambda run: run.folder.name,
    'state': state,
    'model': _model,
    'objective': lambda run: run.config.objective.name,
    'text': _text,
    'vocabulary': lambda run: f'{run.config.model.tokens:,} tokens',
    'parameters': _parameters,
    'tokens read': _tokens,
    'FLOPs': _flops_text,
    'FLOPs are counted': _rule,
    'training loss, the last': _final_loss,
    'held-out loss': _held_out_loss,
    'bits per byte': lambda run: _formatted(_told(run, 'bits_per_byte'), '.4f'),
    'tokens a second, the median': lambda run: _median(run, 'tokens_per_second', ',.0f'),
    'MFU': lambda run: _formatted(_told(run, 'mfu'), '.1%') or _median(run, 'mfu', '.1%'),
    'seconds in the loop': lambda run: _formatted(run.metrics.last('seconds'), ',.1f'),
    'seconds to compile': lambda run: _formatted(_told(run, 'compile_seconds'), ',.1f'),
    'most memory of a device': _memory,
    'steps skipped': lambda run: _formatted(run.metrics.last('skipped_steps'), ',.0f'),
    'device': lambda run: _told(run, 'device'),
    'attention': lambda run: _told(run, 'attention_kernel'),
    'formats': _dtypes,
}
"""What is told of each run, in this order."""
