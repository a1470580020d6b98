"""A model card of a run in Hugging Face's format: what its folder tells, and what it does not.

Mitchell et al. 2019 (arXiv:1810.03993) for the sections; nothing stands in a card that the run did
not record or the user did not give. Places on the machine are told by their last name alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm.fields import flatten
from lm.report.card_metadata import Given, converts, front_matter, last_name, scores, task
from lm.report.facts import facts, missing, state
from lm.report.recorded import Recorded

_MODEL = (
    'name', 'num_layers', 'd_model', 'num_heads', 'num_kv_heads', 'head_dim', 'd_ff', 'vocab_size',
    'max_positions', 'head', 'num_labels', 'dropout',
)  # fmt: skip
_COMPUTE = (
    'tokens read', 'FLOPs', 'FLOPs are counted', 'MFU', 'seconds in the loop',
    'most memory of a device', 'steps skipped', 'device', 'attention', 'formats',
    'training loss, the last',
)  # fmt: skip
"""Rows of the report that a card has too."""
_ELSEWHERE = 'Not known: the model was trained elsewhere.'
_PLACES = (
    'data.source', 'data.sources', 'data.validation_source', 'data.tokenizer', 'data.cache_dir',
    'eval.sources', 'checkpoint.init_from',
)  # fmt: skip
"""Fields whose values may be paths."""
_LEFT_OUT = ('data.source', 'data.sources', 'data.tokenizer', 'data.cache_dir', 'train.loggers')
"""Fields that other sections tell, or that are of the machine."""
_NOT_TRAINED = ('eval.', 'checkpoint.')

Table = Sequence[tuple[str, Any]]


def card(run: Recorded, given: Given) -> str:
    """The card, Markdown after YAML.

    Args:
      run: ended, under way or converted.
      given: what the user says of the model.
    """
    sections = {
        'Model': _table(_model(run)),
        'Training data': '\n\n'.join(_data(run)),
        'Training procedure': _training(run),
        'Evaluation': _evaluation(run),
        'Where its parameters come from': _list(_lineage(run)),
        'Use': _use(run),
        'What this card does not know': _list(_unknown(run, given)),
    }
    body = '\n\n'.join(f'## {title}\n\n{text}' for title, text in sections.items())
    return f'{front_matter(run, given)}\n# {run.label}\n\n{_summary(run)}\n\n{body}\n'


def _summary(run: Recorded) -> str:
    told = facts([run])
    words = (
        f'{told["model"][0]}; parameters: {told["parameters"][0]}. Objective '
        f'`{run.config.objective.name}`. The run {state(run)}.'
        if run.converted_from is None
        else f'{told["model"][0]}; parameters: {told["parameters"][0]}; {state(run)}.'
    )
    if run.summary is None and run.converted_from is None:
        words += '\n\n**This run has not ended: the figures below are those so far.**'
    return words


def _model(run: Recorded) -> Table:
    fields = {name: getattr(run.config.model, name) for name in _MODEL}
    rows = [(f'`model.{name}`', value) for name, value in fields.items() if value is not None]
    options = _options(run.config.model.options)
    rows += [(f'`model.options.{name}`', value) for name, value in options]
    return [*rows, ('parameters', facts([run])['parameters'][0])]


def _data(run: Recorded) -> Iterator[str]:
    """A table of the sources, and the tokenizer."""
    if run.converted_from is not None:
        yield _ELSEWHERE
        return
    accounts: Mapping[str, Any] = (run.summary or {}).get('data', {})
    if not accounts:
        names = ', '.join(f'`{last_name(name)}`' for name in run.config.data.names)
        yield f'{names}. The account of documents and tokens is written when a run ends.'
        return
    columns = {
        'documents read': ('documents', 'read'), 'trained on': ('documents', 'trained_on'),
        'held out': ('documents', 'held_out'), 'dropped': ('documents', 'dropped'),
        'tokens read': ('tokens', 'read'), 'tokens trained on': ('tokens', 'trained_on'),
        'tokens dropped': ('tokens', 'dropped'), 'tokens repeated': ('tokens', 'repeated'),
    }  # fmt: skip
    yield '\n'.join([
        f'| source | {" | ".join(columns)} | epochs | SHA-256 |',
        '|' + '---|' * (len(columns) + 3),
        *(
            f'| `{last_name(name)}` | '
            + ' | '.join(f'{account[kind][key]:,}' for kind, key in columns.values())
            + f' | {account["epochs"]:.3g} | `{account["source_sha256"]}` |'
            for name, account in accounts.items()
        ),
    ])  # fmt: skip
    yield _list([
        f'`{last_name(name)}`: {count:,} documents dropped: {why}'
        for name, account in accounts.items()
        for why, count in account['documents']['dropped_why'].items()
    ] or ['No document was dropped.'])  # fmt: skip
    tokenizer = next(iter(accounts.values()))['tokenizer']
    yield (
        f'Tokenizer: {tokenizer["kind"]}, {tokenizer["ids"]:,} ids, SHA-256 '
        f'`{tokenizer["sha256"]}`.'
    )


def _training(run: Recorded) -> str:
    if run.converted_from is not None:
        return _ELSEWHERE
    return _table(_procedure(run)) + '\n\n' + _table(_compute(run))


def _procedure(run: Recorded) -> Table:
    """The fields of the config that decide the training."""
    fields = flatten(run.config)
    return [
        (f'`{path}`', _public(path, value))
        for path, value in fields.items()
        if not path.startswith(('model.', *_NOT_TRAINED))
        and path not in _LEFT_OUT
        and value not in (None, '', ())
    ]


def _public(path: str, value: Any) -> Any:
    """A field's value without what only its machine knows."""
    if path not in _PLACES or not value:
        return value
    return last_name(value) if isinstance(value, str) else [last_name(one) for one in value]


def _compute(run: Recorded) -> Table:
    told = facts([run])
    return [(name, told[name][0]) for name in _COMPUTE if name in told]


def _evaluation(run: Recorded) -> str:
    found = scores(run)
    if found:
        rows = [(f'{last_name(s.source)}: {s.name}', f'{s.value:.6g}') for s in found]
        return 'On all of the text that was held out:\n\n' + _table(rows)
    loss = run.held_out.last('loss')
    if loss is None:
        return 'Nothing was evaluated.'
    return (
        'Not on all of the held-out text yet. On a part of it, at step '
        f'{run.held_out.steps[-1]:,}: {loss:.6g} nats per target token.'
    )


def _lineage(run: Recorded) -> list[str]:
    """What the folder's history says of parameters and of changes on the way."""
    lines = []
    if run.converted_from is not None:
        return [
            f'Converted from `{last_name(run.converted_from)}`; its training is not recorded here.'
        ]
    for row in run.history:
        changes, parameters = row['changes'], row.get('parameters', {})
        for kind, verb in (
            ('init_from', 'Begun with parameters of'),
            ('fork_from', 'Branched off'),
        ):
            if kind in changes:
                lines.append(f'{verb} `{last_name(changes[kind][1])}`.')
        for label, names in parameters.items():
            lines.append(
                f'{label.replace("_", " ")}: {", ".join(f"`{n}`" for n in names) or "none"}'
            )
        later = {path: pair for path, pair in changes.items() if row['step'] and '.' in path}
        for path, (old, new) in later.items():
            was, before = (_public(path, value) for value in (new, old))
            lines.append(f'From step {row["step"]:,} on `{path}` was {was!r}, before {before!r}.')
    digest = (run.summary or {}).get('params_sha256')
    if digest:
        lines.append(f'SHA-256 of the parameters: `{digest}`.')
    begun = any(
        'init_from' in row['changes'] or 'fork_from' in row['changes'] for row in run.history
    )
    return lines if begun else ['Initialised at random, and trained in this run alone.', *lines]


def _use(run: Recorded) -> str:
    ours = "import lm\nmodel = lm.load('WORKDIR')    # or the folder that `lm convert` wrote"
    text = f'```python\n{ours}\n```'
    if not converts(run.config):
        return f'{text}\n\nTransformers has no such architecture.'
    auto = _AUTO[task(run.config)]
    theirs = (
        f'from transformers import AutoTokenizer, {auto}\n'
        f"model = {auto}.from_pretrained('FOLDER')\n"
        "tokenizer = AutoTokenizer.from_pretrained('FOLDER')"
    )
    return (
        f'{text}\n\nIn transformers, after `lm convert --from=WORKDIR --to=FOLDER`:\n\n'
        f'```python\n{theirs}\n```'
    )


def _unknown(run: Recorded, given: Given) -> list[str]:
    lines = [line[0].upper() + line[1:] + '.' for line in missing(run)]
    if not given.license:
        lines.append('The licence: none was given.')
    if not given.language:
        lines.append('The language of the text: it was not given.')
    return [
        *lines,
        'What the model is fit for, what it must not be used for, and what it gets wrong: nobody '
        'has looked.',
        'What the text holds of people, opinions and mistakes: it was not looked through.',
        'Whether a text that you evaluate on was trained on: `lm evaluate --text=FILE` compares '
        'by 13-grams.',
        'The energy that the training took: it was not measured.',
    ]


_AUTO = {
    'text-generation': 'AutoModelForCausalLM',
    'fill-mask': 'AutoModelForMaskedLM',
    'text2text-generation': 'AutoModelForSeq2SeqLM',
    'text-classification': 'AutoModelForSequenceClassification',
    'token-classification': 'AutoModelForTokenClassification',
    'question-answering': 'AutoModelForQuestionAnswering',
    'feature-extraction': 'AutoModel',
}
"""What of transformers does each of the hub's tasks."""


def _options(options: Any) -> list[tuple[str, Any]]:
    return [] if options is None else [*flatten(options).items()]


def _table(rows: Table) -> str:
    return '\n'.join(['| | |', '|---|---|', *(f'| {name} | {_cell(v)} |' for name, v in rows)])


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        value = ', '.join(map(str, value))
    return str('none' if value is None else value).replace('|', '\\|').replace('\n', ' ')


def _list(lines: Sequence[str]) -> str:
    return '\n'.join(f'- {line}' for line in lines)
