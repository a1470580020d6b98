"""The YAML of a model card: what the Hugging Face hub reads.

Its keys are those of the hub's documentation ("Model Cards", "Model metadata"); results stand in
`model-index`, a task and a data set each.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

import yaml

from lm import registry
from lm.config import Config
from lm.report.recorded import Recorded


@dataclass(frozen=True)
class Given:
    """What only the user can say.

    Attributes:
      license: an identifier of the hub, such as `apache-2.0`; empty: not given.
      language: codes such as `en`; none: not given.
    """

    license: str = ''
    language: tuple[str, ...] = ()


class Score(NamedTuple):
    """A number that was measured on all of what was held out of a source."""

    source: str
    kind: str
    name: str
    value: float


NAMES = {
    'loss': 'nats per target token',
    'bits_per_byte': 'bits per byte',
}
_TASKS = {
    'sequence_classification': 'text-classification',
    'token_classification': 'token-classification',
    'question_answering': 'question-answering',
}
_BY_FAMILY = {
    'encoder': 'fill-mask',
    'decoder': 'text-generation',
    'encoder_decoder': 'text2text-generation',
}


def front_matter(run: Recorded, given: Given) -> str:
    """The block between two lines of `---`."""
    found = {
        'license': given.license,
        'language': [*given.language],
        'library_name': 'transformers' if converts(run.config) else '',
        'pipeline_tag': task(run.config),
        'tags': _tags(run),
        'datasets': [hub_name(n) for n in _sources(run) if hub_name(n)],
        'base_model': _base_model(run),
        'model-index': _model_index(run),
    }
    kept = {key: value for key, value in found.items() if value}
    return f'---\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)}---\n'


def scores(run: Recorded) -> list[Score]:
    """What the whole held-out text was given, source by source; none while a run is under way."""
    if run.summary is None:
        return []
    by_source = run.summary.get('eval_by_source')
    if by_source is None:
        numbers = {'loss': run.summary.get('eval_loss')}
        numbers |= {'bits_per_byte': run.summary.get('bits_per_byte')}
        by_source = {run.config.data.names[0]: numbers | run.summary.get('measures', {})}
    return [
        Score(source, kind, NAMES.get(kind, kind.replace('_', ' ')), float(value))
        for source, numbers in by_source.items()
        for kind, value in numbers.items()
        if kind != 'targets' and value is not None
    ]


def converts(config: Config) -> bool:
    """Whether Hugging Face's format has the architecture."""
    return config.model.name in registry.names('converters')


def task(config: Config) -> str:
    """The hub's name of what the model does: for `pipeline_tag`."""
    if getattr(config.model.options, 'head', True) is False:
        return 'feature-extraction'
    member = registry.lookup('models', config.model.name, 'model.name')
    return _TASKS.get(config.objective.name) or _BY_FAMILY[member.FAMILY]


def hub_name(source: str) -> str:
    """The hub's name of a source that is from there; empty of another."""
    return source.removeprefix('hf:').partition(':')[0] if source.startswith('hf:') else ''


def last_name(place: str) -> str:
    """A place without what only its machine knows: the last part of a path."""
    return place if place.startswith(('hf:', 'tfds:')) else PurePath(place).name or place


def _sources(run: Recorded) -> tuple[str, ...]:
    return () if run.converted_from is not None else run.config.data.names


def _tags(run: Recorded) -> list[str]:
    tags = [run.config.model.name]
    if run.converted_from is None:
        tags.append(run.config.objective.name)
    return ['lm', 'jax', *dict.fromkeys(tag.replace('_', '-') for tag in tags)]


def _base_model(run: Recorded) -> str:
    """Of a run that began with parameters of another model, and of a converted one, that model."""
    if run.converted_from is not None:
        return last_name(run.converted_from)
    names = [row['changes']['init_from'][1] for row in run.history if 'init_from' in row['changes']]
    return last_name(names[0]) if names else ''


def _model_index(run: Recorded) -> list[dict[str, Any]]:
    results: dict[str, dict[str, Any]] = {}
    for score in scores(run):
        result = results.setdefault(
            score.source,
            {
                'task': {'type': task(run.config)},
                'dataset': {
                    'name': f'{last_name(score.source)}, held out',
                    'type': hub_name(score.source) or _slug(last_name(score.source)),
                },
                'metrics': [],
            },
        )
        metric = {'type': score.kind, 'value': round(score.value, 6), 'name': score.name}
        result['metrics'].append(metric)
    return [{'name': run.label, 'results': [*results.values()]}] if results else []


def _slug(name: str) -> str:
    """A name in the hub's letters."""
    return re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-')
