"""The command line: what it lists, what it returns, and what it says of a mistake."""

import errno
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import main as command
from launch.main import main, verbs
from lm.errors import UserError
from lm.flags import Flags

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Flags], None]], None]:
    """Makes `lm fake` run the function given, with the flag --size."""

    def install(run: Callable[[Flags], None]) -> None:
        module = types.ModuleType('launch.fake', 'Does as the test says.')
        module.define_flags = lambda flags: flags.define('size', int, 3, 'how many')
        module.main = run
        monkeypatch.setitem(sys.modules, 'launch.fake', module)
        monkeypatch.setattr(command, 'verbs', lambda: {'fake': 'Does as the test says.'})

    return install


def raising(error: BaseException) -> Callable[[Flags], None]:
    def run(flags: Flags) -> None:
        raise error

    return run


@pytest.mark.parametrize('words', [[], ['help'], ['--help'], ['-h']])
def test_the_overview_lists_every_verb(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    for name in [*verbs(), 'help']:
        assert re.search(rf'^  {name} +\S', out, re.MULTILINE), name


def test_verbs_are_the_files_that_name_them() -> None:
    found = verbs()
    assert {'train', 'summary'} <= set(found)
    assert 'main' not in found
    assert not any(name.startswith('_') for name in found)
    assert all(summary.endswith('.') for summary in found.values())
    assert max(map(len, found.values())) <= 90


@pytest.mark.parametrize('name', verbs())
def test_the_help_of_a_verb_lists_its_flags(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, '--help']) == 0
    by_flag = capsys.readouterr()
    assert main(['help', name]) == 0
    assert capsys.readouterr().out == by_flag.out
    assert by_flag.err == ''
    assert '\n  --' in by_flag.out


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['trian'], "lm: 'trian': no such verb; did you mean train?"),
        (['help', 'trian'], "lm: 'trian': no such verb; did you mean train?"),
        (
            ['train', '--config=llama_tiny', '--config.train.step=3', '--workdir=x'],
            'lm train: --config.train.step: no such field; did you mean --config.train.steps?',
        ),
        (
            ['train', '--config=llama_tiny'],
            'lm train: --workdir: missing; give the folder of the run, or its address: gs://, s3://',
        ),
        (
            ['train', '--config=llama_tiny', '--fork_from=x', '--workdir=y'],
            'lm train: --fork_from=x: must be WORKDIR@STEP',
        ),
        (['summary', '--workdir=nonesuch'], None),
    ],
)
def test_a_users_error_is_one_line_and_status_2(
    words: list[str], line: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert line is None or captured.err == f'{line}\n'


def test_flags_reach_the_verb(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(lambda flags: print(flags['size'] + 1))
    assert main(['fake', '--size=4']) == 0
    assert capsys.readouterr().out == '5\n'


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (UserError('a: wrong\n  line'), 2, 'lm fake: a: wrong line\n'),
        (KeyboardInterrupt(), 130, ''),
        (OSError(errno.ENOSPC, 'No space left on device', 'f'), 2, 'lm fake: f: No space left'),
        (PermissionError(errno.EACCES, 'Permission denied', 'f'), 2, 'lm fake: f: Permission'),
    ],
)
def test_how_a_verb_ends(
    verb: Callable[..., None],
    error: BaseException,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb(raising(error))
    assert main(['fake']) == status
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count('\n') == (1 if line else 0)


def test_a_full_disk_is_found_behind_another_error(
    verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    wrapped = RuntimeError('writer died')
    wrapped.__cause__ = OSError(errno.EFBIG, 'File too large')
    verb(raising(wrapped))
    assert main(['fake']) == 2
    assert capsys.readouterr().err == 'lm fake: File too large\n'


@pytest.mark.parametrize('error', [ValueError('bug'), FileNotFoundError(errno.ENOENT, 'gone')])
def test_a_bug_keeps_its_traceback(verb: Callable[..., None], error: Exception) -> None:
    verb(raising(error))
    with pytest.raises(type(error)):
        main(['fake'])


def test_a_reader_that_leaves_is_no_error() -> None:
    # `true` is gone long before the help is printed.
    command_line = f'{sys.executable} -m launch train --config=llama_tiny --help'
    shell = f'{command_line} | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', shell], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ''
    assert done.returncode in (0, 141)


def test_the_module_form() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'launch', 'nonesuch'], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("lm: 'nonesuch': no such verb")
