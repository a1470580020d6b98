"""Notebooks run by a kernel of the Python that runs the tests."""

import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent.parent
PREPARED = ROOT / '.pytest_cache' / 'lm'
"""Where notebooks keep their prepared text, from one session of tests to the next."""
LONGEST_CELL = 600
"""Seconds; a cell that takes longer hangs."""


def executed(notebook: NotebookNode, folder: Path, *, small: bool = True) -> NotebookNode:
    """A copy with outputs, run from top to bottom in an empty folder.

    Raises:
      CellExecutionError: a cell raises.
    """
    environment = {
        **os.environ,
        'LM_NOTEBOOK_SMALL': str(int(small)),
        'LM_CACHE': str(PREPARED),
        'PYTHONPATH': str(ROOT),
        'TMPDIR': str(folder),
        # Neither kernels nor start-up files of whoever runs the tests.
        'JUPYTER_DATA_DIR': str(folder / 'jupyter'),
        'IPYTHONDIR': str(folder / 'ipython'),
    }
    environment.pop('MPLBACKEND', None)  # the kernel's own, which draws into the notebook
    copy = nbformat.from_dict(notebook)
    client = NotebookClient(
        copy,
        timeout=LONGEST_CELL,
        kernel_name='python3',
        resources={'metadata': {'path': str(folder)}},
    )
    client.execute(env=environment)
    return copy
