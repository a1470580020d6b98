"""What a wheel holds, and that it runs outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.training.runs import write_text

ROOT = Path(__file__).parent.parent.parent
OWN_MEMBERS = Path(__file__).parent / 'own_members.py'
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


def installed(wheel: Path, folder: Path, dependencies: bool) -> Path:
    """The command `lm` of a new environment; dependencies, if any, are those of this one."""
    venv.create(folder, with_pip=True, system_site_packages=False)
    python = folder / 'bin' / 'python'
    install = [python, '-m', 'pip', 'install', '--quiet', '--no-deps', str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    if dependencies:
        # Behind the environment's own packages, where the wheel is.
        packages = folder / 'lib' / f'python{sysconfig.get_python_version()}' / 'site-packages'
        (packages / 'theirs.pth').write_text(sysconfig.get_path('purelib'))
    return folder / 'bin' / 'lm'


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


def test_own_members_train_go_on_and_are_used(wheel: Path, tmp_path: Path) -> None:
    """A model, an objective and an optimizer of a user's file, far from the repository."""
    lm = installed(wheel, tmp_path / 'env', dependencies=True)
    shutil.copy(OWN_MEMBERS, tmp_path / 'mine.py')
    write_text(tmp_path / 'text.txt')
    environment = {
        **os.environ, 'LM_CACHE': str(tmp_path / 'cache'), 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': '',
    }  # fmt: skip

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [lm, *words], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    train = [
        'train', '--config=mine.py', '--config.data.source=text.txt', '--workdir=run',
        '--config.mesh.devices=1',
        '--config.optim.schedule=constant', '--config.optim.options.decay=0.8',
    ]  # fmt: skip
    first = run(*train)
    assert first.returncode == 0, first.stderr
    summary = json.loads((tmp_path / 'run' / 'summary.json').read_text())
    v, d, f, n = 400, 16, 32, 4
    assert summary['params'] == v * d + n * d * f + f + f * v + v
    # 20 steps of 8 rows of 32 tokens; the table is looked up, not multiplied with.
    assert summary['flops'] == 6 * 20 * 8 * 32 * (n * d * f + f * v)
    rows = [json.loads(row) for row in (tmp_path / 'run' / 'metrics.jsonl').open()]
    assert rows[-1]['loss'] < rows[0]['loss'] < 7
    on = run(*train, '--config.train.steps=30')
    assert on.returncode == 0 and 'going on   from step 20' in on.stderr, on.stderr
    use = ['generate', '--workdir=run', '--prompt=9 green', '--max_new_tokens=4']
    used = run(*use, '--import=mine.py')
    assert used.returncode == 0 and used.stdout.startswith('9 green'), used.stderr
    unknown = run(*use)
    assert unknown.returncode == 2 and unknown.stderr.count('\n') == 1
    assert 'model.name=nplm: no such member' in unknown.stderr
    assert '--import=FILE.py' in unknown.stderr


def test_it_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    lm = installed(wheel, tmp_path / 'env', dependencies=False)
    done = subprocess.run([lm, 'help'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '  train  ' in done.stdout
