"""The pages as a site: the reference says all that is public, and a strict build passes."""

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import launch.main
import lm
from lm import registry
from lm.config import Config
from lm.fields import flatten

ROOT = Path(__file__).parent.parent.parent

pytest.importorskip('mkdocs', reason='needs the extra docs')


@cache
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        'reference_pages', ROOT / 'docs' / 'reference_pages.py'
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def reference() -> dict[str, str]:
    pages: dict[str, str] = hook().pages()
    return pages


def test_every_field_member_verb_and_exported_name_has_its_place() -> None:
    fields = {*re.findall(r'^\| `([\w.]+)` \|', reference()['config_fields'], re.MULTILINE)}
    assert fields == {*flatten(Config())}
    members = {*re.findall(r'^### (\w+: \w+)$', reference()['members'], re.MULTILINE)}
    assert members == {
        f'{kind}: {name}' for kind in registry.PACKAGES for name in registry.names(kind)
    }
    assert '| `optim.options.b2` | float | `0.95` |' in reference()['members']
    verbs = {*re.findall(r'^## lm (\w+)$', reference()['verbs'], re.MULTILINE)}
    assert verbs == {*launch.main.verbs()}
    assert '--restretch' in reference()['verbs'] and '--config.model.' not in reference()['verbs']
    headings = {*re.findall(r'heading: (\S+)', ''.join(reference().values()))}
    exported = {f'lm.{name}' for name in lm._EXPORTS}
    exported |= {f'lm.scaling.{name}' for name in lm.scaling.__all__}
    assert headings == exported | {f'lm.inspection.{name}' for name in lm.inspection.__all__}


SAYS_LITTLE = {
    'undocumented.py': ('class Undocumented:\n    field: int\n', 'Undocumented: is public and'),
    'method.py': (
        'class Documented:\n    """Says what it is."""\n\n    def method(self):\n        pass\n',
        'Documented.method: is public and has no docstring',
    ),
    'parameter.py': (
        'def half_said(first, second):\n    """Of `first` only."""\n',
        'half_said: its docstring does not say what second is',
    ),
    'field.py': (
        'class Record:\n    """A record of `first`."""\n\n    first: int\n    second: int\n',
        'Record: its docstring does not say what second is',
    ),
}


@pytest.mark.parametrize(('file', 'text', 'said'), [(f, *x) for f, x in SAYS_LITTLE.items()])
def test_what_is_public_and_says_little_is_refused(
    file: str, text: str, said: str, tmp_path: Path
) -> None:
    import griffe
    from mkdocs.exceptions import PluginError

    (tmp_path / file).write_text(f'"""A module."""\n\n\n{text}')
    module = griffe.load(Path(file).stem, search_paths=[str(tmp_path)])
    with pytest.raises(PluginError, match=said):
        hook().require_docstring(module)
        for member in module.members.values():
            hook()._require_parts(member)


@pytest.mark.slow  # builds and renders the whole reference: 10 s of one core, half a minute busy
def test_a_strict_build_passes_and_asks_no_network(tmp_path: Path) -> None:
    words = [sys.executable, '-m', 'mkdocs', 'build', '--strict', f'--site-dir={tmp_path}']
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / 'reference' / 'scaling.html').read_text()
    assert 'id="lm.scaling.parametric.fit_parametric"' in page
    assert 'N*, D* and the loss at a compute' in page
    loaded = re.compile(r'(?:<script[^>]*src|<link[^>]*rel="stylesheet"[^>]*href)="(https?:|//)')
    for html in tmp_path.rglob('*.html'):
        assert not loaded.search(html.read_text()), html
