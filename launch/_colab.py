"""Installs the repository into Colab's own Python: `python -m launch._colab`, of its root.

Of a module: run as a file it would find `launch/inspect.py` where Python looks for its own.

Colab brings a jax for its runtime: a plug-in for CUDA 12 or 13, or libtpu, of jax's own version. A
newer jax beside an older plug-in falls back to the CPU, or ends with a segmentation fault. So jax
is asked for with the extra of what is there: pip leaves all of it alone where its version serves,
and otherwise moves it together. NumPy stays, for the notebook may have imported it already.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {'jax-cuda13-plugin': 'cuda13', 'jax-cuda12-plugin': 'cuda12', 'libtpu': 'tpu'}
"""What is installed for an accelerator, and the extra of jax that goes with it."""


def requirements(installed: Mapping[str, str], jax: str) -> list[str]:
    """What pip is asked to install beside the repository.

    Args:
      installed: versions of the packages that are there, by name.
      jax: which versions of jax serve, as pyproject.toml has it: `jax>=1,<2`.
    """
    extra = next((extra for name, extra in EXTRAS.items() if name in installed), None)
    wanted = [jax if extra is None else jax.replace('jax', f'jax[{extra}]', 1)]
    if 'numpy' in installed:
        wanted.append(f'numpy=={installed["numpy"]}')
    return wanted


def _name(package: metadata.Distribution) -> str:
    """As package indices compare it."""
    return re.sub(r'[-_.]+', '-', package.metadata['Name']).lower()


def main() -> int:
    """Runs pip; returns its exit status."""
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']
    jax = next(line for line in project['dependencies'] if line.startswith('jax>'))
    installed = {_name(each): each.version for each in metadata.distributions()}
    # Not the extra notebook: JupyterLab would replace parts of Colab's own server.
    what = ['-e', f'{ROOT}[inspect]', 'ipywidgets', *requirements(installed, jax)]
    return subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', *what]).returncode


if __name__ == '__main__':
    sys.exit(main())
