"""A hook of MkDocs: makes the pages of `reference/` from what the code itself says.

Docstrings become pages of mkdocstrings; config fields and options are read off the dataclasses, and
each verb's flags are what `lm VERB --help` prints. A public name without a docstring is an error.
"""

import contextlib
import dataclasses
import importlib
import inspect
import io
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the code beside these pages, whatever is installed

import launch.main  # noqa: E402
import launch.places  # noqa: E402
import lm  # noqa: E402
from lm import registry  # noqa: E402
from lm.config import Config  # noqa: E402
from lm.fields import field_types, flatten, sections, type_words  # noqa: E402

EXPORTING = {'lm': 'lm', 'scaling': 'lm.scaling', 'inspection': 'lm.inspection'}
"""Pages of the names that a package exports."""

WHOLE = {
    'generation': ['lm.generation'],
    'planning': ['lm.planning'],
    'base': [
        'lm.config',
        'lm.resolution',
        'lm.named_configs',
        'lm.fields',
        'lm.registry',
        'lm.batch',
        'lm.vocabulary',
    ],
}
"""Pages of all public names of packages and modules."""

CONTRACTS = {
    'objectives': ('lm.objectives._objective', ('Objective', 'SaysTexts', 'Sums')),
    'models': ('lm.models.spec', ('TransformerSpec', 'Positions', 'Initializers', 'Initializer')),
}
"""What a member of a kind is built of, which the page of members shows beside its contract."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the reference to those that lie in `docs/`."""
    for name, text in pages().items():
        files.append(File.generated(config, f'reference/{name}.md', content=text))
    return files


def pages() -> dict[str, str]:
    """Every page of the reference by its name, in Markdown.

    Raises:
      PluginError: a public name has no docstring.
    """
    made = {
        'verbs': _verbs(),
        'config_fields': _config_fields(),
        'members': _members(),
        **{page: _exports(package) for page, package in EXPORTING.items()},
    }
    for page, roots in WHOLE.items():
        blocks = [block for root in roots for block in _whole(root)]
        made[page] = '\n\n'.join([f'# {" and ".join(roots)}', *blocks])
    return made


def _exports(package: str) -> str:
    """The names that a package exports, each where it is defined, under the name that users say."""
    here = _code()[package.removeprefix('lm').lstrip('.')] if package != 'lm' else _code()
    where = lm._EXPORTS if package == 'lm' else {}
    names = where or here.exports
    blocks = [f'# {package}', _prose(_said(here))]
    for name in names:
        home = _code()[where[name].removeprefix('lm.')] if where else here
        member = home[name].final_target if home[name].is_alias else home[name]
        require_docstring(member)
        _require_parts(member)
        blocks.append(_directive(member.path, heading=f'{package}.{name}'))
    return '\n\n'.join(blocks)


@cache
def _code() -> griffe.Object:
    """All of `lm` as it is written; nothing of it is imported for that."""
    return griffe.load('lm', search_paths=[str(ROOT)])


def _said(member: griffe.Object) -> str:
    return member.docstring.value if member.docstring else ''


def _whole(root: str) -> Iterator[str]:
    """A module, and of a package all that is public in it, with everything public there."""
    module = _code()[root.partition('.')[2]]
    require_docstring(module)
    yield _directive(module.path)
    for name in sorted(module.modules):
        if not name.startswith('_'):
            yield from _whole(f'{root}.{name}')


def require_docstring(member: griffe.Object) -> None:
    """Refuses what says nothing of itself, and a module or class of which a part does not.

    Raises:
      PluginError: `member`, or a public function, class or method in it, has no docstring.
    """
    if not _said(member):
        raise PluginError(f'{member.path}: is public and has no docstring')
    for name, part in {**member.functions, **member.classes}.items():
        if not name.startswith('_') and not part.is_alias:
            require_docstring(part)


def _require_parts(member: griffe.Object) -> None:
    """Refuses a docstring that leaves out a parameter, or of a record a field.

    Raises:
      PluginError: it does.
    """
    parts: Iterable[str] = ()
    if isinstance(member, griffe.Function):
        parts = [parameter.name for parameter in member.parameters]
    elif isinstance(member, griffe.Class):
        parts = [n for n, field in member.attributes.items() if 'property' not in field.labels]
    said = {*re.findall(r'\w+', _said(member))}
    for part in parts:
        if part not in said and not part.startswith('_'):
            raise PluginError(f'{member.path}: its docstring does not say what {part} is')


def _directive(target: str, heading: str = '') -> str:
    options = [f'      heading: {heading}', '      toc_label: ' + heading] if heading else []
    return '\n'.join([f'::: {target}', *(['    options:', *options] if options else [])])


def _verbs() -> str:
    blocks = ['# Verbs', '`lm help` lists them, `lm VERB --help` is what stands here.']
    for verb in launch.main.verbs():
        blocks += _help([verb])
        if verb == 'launch':
            blocks += [block for place in launch.places.names() for block in _help([verb, place])]
    return '\n\n'.join(blocks)


def _help(words: list[str]) -> list[str]:
    """What `lm WORDS --help` prints, under a heading.

    Raises:
      PluginError: it fails.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = launch.main.main([*words, '--help'])
    name = f'lm {" ".join(words)}'
    if status:
        raise PluginError(f'{name} --help: ends with status {status}')
    return [f'## {name}', f'```text\n{_without_fields(said.getvalue())}\n```']


def _without_fields(text: str) -> str:
    """A verb's help without the fields of its config, which have a page of their own."""
    kept, inside = [], False
    for line in text.rstrip().splitlines():
        if line.startswith('  --'):
            begins = not inside and line.startswith('  --config.')
            inside = line.startswith('  --config.')
            kept += ['  --config.SECTION.FIELD', '      see "Config fields"'] if begins else []
        if not inside:
            kept.append(line)
    return '\n'.join(kept)


def _config_fields() -> str:
    config = Config()
    blocks = [
        '# Config fields',
        'Each is a flag, `--config.SECTION.FIELD`, and a path of `lm.load_config`. The defaults '
        "are those of the dataclasses; a named config has its own. A member's own fields, its "
        'options, are on the page of [members](members.md).',
    ]
    types, defaults = field_types(config), flatten(config)
    for name, section in sections(config).items():
        about = inspect.getdoc(type(section)) or ''
        rows = [
            (path, *types[path], defaults[path]) for path in types if path.startswith(f'{name}.')
        ]
        blocks += [f'## {name}', about, _table(rows)]
    return '\n\n'.join(blocks)


def _members() -> str:
    blocks = ['# Members', inspect.getdoc(registry) or '']
    for kind, package in registry.PACKAGES.items():
        contract = inspect.getdoc(importlib.import_module(package))
        if not contract:
            raise PluginError(f'{package}: has no docstring')
        blocks += [f'## {kind}', f'```text\n{contract}\n```']
        module, names = CONTRACTS.get(kind, ('', ()))
        blocks += [f'::: {module}.{name}\n    options:\n      heading_level: 3' for name in names]
        for name in registry.names(kind):
            member = registry.lookup(kind, name, kind)
            about = inspect.getdoc(member)
            if not about:
                raise PluginError(f'{kind} {name}: has no docstring')
            blocks += [f'### {kind}: {name}', _prose(about)]
            if kind in SECTION and dataclasses.fields(member.Options):
                blocks.append(_table(_options(kind, member.Options())))
    return '\n\n'.join(blocks)


SECTION = {'models': 'model', 'objectives': 'objective', 'optimizers': 'optim'}
"""The section of the config that holds a kind's options."""


def _options(kind: str, options: Any) -> Iterator[tuple[str, Any, str, Any]]:
    defaults = flatten(options)
    for name, (annotation, meaning) in field_types(options).items():
        yield f'{SECTION[kind]}.options.{name}', annotation, meaning, defaults[name]


def _table(rows: Iterable[tuple[str, Any, str, Any]]) -> str:
    """Fields with type, default and meaning.

    Raises:
      PluginError: a field that does not say what it means.
    """
    lines = ['| field | type | default | meaning |', '|---|---|---|---|']
    for path, annotation, meaning, default in rows:
        if not meaning:
            raise PluginError(f'{path}: has no meaning (setting(default, meaning))')
        shown = ','.join(map(str, default)) if isinstance(default, tuple) else str(default)
        cells = (f'`{path}`', type_words(annotation), f'`{shown}`' if shown else '', meaning)
        lines.append('| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |')
    return '\n'.join(lines)


def _prose(docstring: str) -> str:
    """A docstring whose lines of code, without a fence of their own, are set as code."""
    paragraphs = [
        f'```python\n{paragraph}\n```' if _is_code(paragraph) else paragraph
        for paragraph in docstring.split('\n\n')
    ]
    return '\n\n'.join(paragraphs)


def _is_code(paragraph: str) -> bool:
    """Whether a paragraph is Python that assigns or imports something."""
    try:
        compiled = compile(paragraph, 'docstring', 'exec')
    except SyntaxError:
        return False
    return bool(compiled.co_names)
