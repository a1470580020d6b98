"""What a wheel holds, and that it runs outside the repository."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = ('pyproject.toml', 'setup.py', 'LICENSE', 'lm', 'launch', 'experiments')

pytestmark = pytest.mark.slow  # pip fetches the build backend, and makes an environment


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy: setuptools writes build/ beside the sources."""
    copy, out = tmp_path_factory.mktemp('copy'), tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    pip = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '-w', str(out), str(copy)]
    subprocess.run(pip, check=True, capture_output=True)
    (built,) = out.glob('*.whl')
    return built


def test_no_top_level_name_is_left_to_clash(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split('/')[0] for name in names}
    assert {top for top in tops if not top.endswith('.dist-info')} == {
        'lm', 'lm_launch', 'lm_experiments',
    }  # fmt: skip


def test_every_module_is_in_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, package in (
        ('lm', 'lm'),
        ('launch', 'lm_launch'),
        ('experiments', 'lm_experiments'),
    ):
        for path in (ROOT / folder).rglob('*.py'):
            assert f'{package}/{path.relative_to(ROOT / folder)}' in names


def test_it_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    # The dependencies are those of this environment: only the wheel itself is put to the test.
    venv.create(tmp_path / 'env', with_pip=True, system_site_packages=False)
    python = tmp_path / 'env' / 'bin' / 'python'
    install = [python, '-m', 'pip', 'install', '--quiet', '--no-deps', str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    done = subprocess.run(
        [tmp_path / 'env' / 'bin' / 'lm', 'help'], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '  train  ' in done.stdout
