"""Each notebook runs from top to bottom, is what its text form says, and begins like the others."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tests.notebooks.executed import ROOT, executed

FOLDER = ROOT / 'notebooks'
PICTURES = {
    '00_quickstart': 1,
    '01_sharding_on_an_emulated_mesh': 6,
    '02_three_objectives': 1,
    '03_precision': 4,
    '04_chinchilla': 2,
    '05_generation': 2,
    '06_attention_and_embeddings': 4,
}
"""Of each notebook, how many are shown."""
NAMES = [*PICTURES]
METADATA = {
    'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
    'jupytext': {
        'cell_metadata_filter': '-all',
        'notebook_metadata_filter': 'kernelspec,-jupytext,-language_info',
    },
}
"""What jupytext writes by notebooks/jupytext.toml."""
BADGE = re.compile(r'\[!\[Open in Colab\]\(\S+/colab-badge\.svg\)\]\((\S+)\)')
IN_COLAB = 'https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb'


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f'{name}.ipynb', as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


def pictures(notebook: NotebookNode) -> int:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return sum('image/png' in output.get('data', {}) for output in outputs)


def test_these_are_all() -> None:
    assert sorted(path.stem for path in FOLDER.glob('*.ipynb')) == NAMES
    assert sorted(path.stem for path in FOLDER.glob('*.py')) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_runs(name: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    begin = time.perf_counter()
    found = executed(read(name), tmp_path)
    record_property('notebook_seconds', time.perf_counter() - begin)
    assert pictures(found) == PICTURES[name]


def test_a_cell_that_fails_is_told(tmp_path: Path) -> None:
    cells = ['assert 1 == 1', 'assert 1 == 2, "no two"', 'ran = True']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with pytest.raises(CellExecutionError, match='no two'):
        executed(notebook, tmp_path)


def test_the_kernel_is_of_this_python_and_this_repository(tmp_path: Path) -> None:
    cell = 'import sys, lm; print(sys.executable, lm.__file__)'
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    [output] = executed(notebook, tmp_path).cells[0].outputs
    assert output.text.split() == [sys.executable, str(ROOT / 'lm' / '__init__.py')]


@pytest.mark.parametrize('name', NAMES)
def test_the_text_form_has_the_same_cells(name: str) -> None:
    text = jupytext.read(FOLDER / f'{name}.py')
    notebook = read(name)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ], 'run: jupytext --sync notebooks/*.py'
    assert text.metadata.kernelspec == notebook.metadata.kernelspec


@pytest.mark.parametrize('name', NAMES)
def test_outputs_and_metadata_are_left_out(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    for cell in notebook.cells:
        assert cell.metadata == {}
    for cell in code_cells(notebook):
        assert (cell.outputs, cell.execution_count) == ([], None)


@pytest.mark.parametrize('name', NAMES)
def test_all_begin_alike(name: str) -> None:
    notebook = read(name)
    title, set_up = notebook.cells[0], notebook.cells[1]
    assert title.cell_type == 'markdown' and title.source.startswith('# ')
    assert set_up.cell_type == 'code' and set_up.source == read(NAMES[0]).cells[1].source
    [repository] = re.findall(r"^REPOSITORY = 'https://github\.com/(\S+)'$", set_up.source, re.M)
    assert BADGE.findall(title.source) == [IN_COLAB.format(repository=repository, name=name)]
