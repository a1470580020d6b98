"""A queued resource of Cloud TPU: what is copied to its VMs, and the calls of gcloud for it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from lm.errors import UserError
from lm.flags import Flags
from lm.storage import EXTRAS

Argv = tuple[str, ...]

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ('pyproject.toml', 'setup.py', 'constraints.txt', 'README.md', 'LICENSE')
PACKAGES = ('lm', 'launch', 'experiments')
FILE_FLAGS = ('config', 'import', 'experiment')
"""Whose values may be a FILE.py of the user's, with `:PRESET` behind it."""

HOME = 'lm'
"""The folder in the home of each TPU VM; also that of what is copied there."""
ARCHIVE = 'source.tar.gz'
PYTHON = '3.12'
"""Of `lm` there; the VMs' own may be too old."""

RUN = """\
# Starts the command on this VM if that was not done yet, follows what it says, ends as it ended.
# It is no child of the connection, and goes on without one.
cd "$(dirname "$0")" || exit 1
if [ ! -e pid ]; then
  touch log
  setsid nohup bash command.sh > log 2>&1 < /dev/null &
  echo $! > pid
fi
tail --pid="$(cat pid)" --sleep-interval=0.2 --lines=+1 --follow log
exit "$(cat status 2> /dev/null || echo 137)"
"""


@dataclass(frozen=True)
class Source:
    """What is installed on the VMs.

    Attributes:
      folder: that `names` lie in.
      names: what of it is copied.
      requirement: by which pip installs it there, without its extras.
      constraints: whether `constraints.txt` is among the names.
    """

    folder: Path
    names: tuple[str, ...]
    requirement: str
    constraints: bool


def find_source(given: str) -> Source:
    """This checkout, or the one or the wheel that is given.

    Raises:
      UserError: there is none.
    """
    if given.endswith('.whl'):
        wheel = Path(given)
        if not wheel.is_file():
            raise UserError(f'--source={given}: no such file')
        return Source(wheel.parent, (wheel.name,), f'./{wheel.name}', constraints=False)
    folder = Path(given) if given else ROOT
    if not (folder / 'pyproject.toml').is_file() or not (folder / 'setup.py').is_file():
        what = f'--source={given}: no checkout of lm' if given else '--source: missing'
        raise UserError(f'{what}; give the folder of a checkout, or a wheel of it (FILE.whl)')
    return Source(folder, (*SOURCES, *PACKAGES), '.', constraints=True)


def files_of(command: Argv) -> tuple[str, ...]:
    """The FILE.py that the command names, which are copied along.

    Raises:
      UserError: one lies outside the current folder, and so would have another name there.
    """
    _, *words = command
    found = []
    for flag in FILE_FLAGS:
        value = Flags(words).peek(flag) or ''
        file = value.partition('.py:')[0] + '.py' if '.py:' in value else value
        if not file.endswith('.py'):
            continue
        if Path(file).is_absolute() or '..' in Path(file).parts:
            raise UserError(
                f'--{flag}={value}: is copied to each host by its name from the current folder; '
                'give it relative to that, and inside'
            )
        found.append(file)
    return tuple(found)


def extras_of(command: Argv) -> tuple[str, ...]:
    """The extras of `lm` that the command needs on a TPU VM."""
    stores = (extra for scheme, extra in EXTRAS.items() if f'{scheme}://' in ' '.join(command))
    return ('tpu', *stores)


def install_script(source: Source, extras: Argv, setup: str, folders: Argv) -> str:
    """What is executed once on each VM.

    Args:
      source: of lm.
      extras: of lm.
      setup: the user's line of bash.
      folders: that must not lie on the VM's own disk.
    """
    constraints = '--constraints=constraints.txt ' if source.constraints else ''
    requirement = shlex.quote(f'{source.requirement}[{",".join(extras)}]')
    lines = [
        '# Installs lm on this VM, with a Python of its own.',
        'set -eu',
        *([setup] if setup else []),
        *(_require_mounted(folder) for folder in folders),
        'cd "$(dirname "$0")"',
        f'tar -xzf {ARCHIVE}',
        # Without the variable a Python that belongs to the system refuses; older pips ignore it.
        'PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv',
        f'python3 -m uv venv --quiet --python={PYTHON} .venv',
        f'python3 -m uv pip install --quiet --python=.venv/bin/python {constraints}{requirement}',
    ]
    return '\n'.join(lines) + '\n'


def _require_mounted(folder: str) -> str:
    """A line of bash that makes the folder, and fails where no disk is mounted for it."""
    quoted = shlex.quote(folder)
    words = shlex.quote(f'lm: {folder}: no disk is mounted there; mount it by --setup')
    return (
        f'mkdir -p {quoted} && [ "$(df --output=target {quoted} | tail -n 1)" != / ] || '
        f'{{ echo {words} >&2; exit 2; }}'
    )


def command_script(command: Argv, variables: dict[str, str]) -> str:
    """What runs on each VM, and keeps its exit status."""
    exports = [f'export {name}={shlex.quote(value)}' for name, value in variables.items()]
    return '\n'.join([*exports, shlex.join(('.venv/bin/lm', *command)), 'echo $? > status', ''])


def pack(source: Source, files: tuple[str, ...], archive: Path) -> Argv:
    """The call of tar that packs what is installed and the user's files."""
    here = ('-C', str(Path.cwd()), *files) if files else ()
    return (
        'tar', '-czf', str(archive), '--exclude=__pycache__', '-C', str(source.folder),
        *source.names, *here,
    )  # fmt: skip


@dataclass(frozen=True)
class Calls:
    """The calls of gcloud for one queued resource, and its TPU VM of the same name.

    Attributes:
      name: of both.
      where: flags of all calls: zone and project.
    """

    name: str
    where: Argv

    def create(self, flags: Argv) -> Argv:
        """Puts it in the queue."""
        return self._resource('create', f'--node-id={self.name}', *flags)

    def state(self) -> Argv:
        """Says how far it is, in a word."""
        return self._resource('describe', '--format=value(state.state)')

    def reason(self) -> Argv:
        """Says why it failed."""
        return self._resource('describe', '--format=value(state.failedData.error.message)')

    def health(self) -> Argv:
        """Says how its VM is, in a word."""
        return self._vm('describe', self.name, '--format=value(state)')

    def copy(self, folder: Path) -> Argv:
        """Copies a folder into the home of every host."""
        return self._vm('scp', str(folder), f'{self.name}:', '--recurse', '--worker=all')

    def execute(self, line: str, *flags: str) -> Argv:
        """Has a shell on every host execute a line."""
        return self._vm('ssh', self.name, '--worker=all', f'--command={line}', *flags)

    def delete(self) -> Argv:
        """Ends it, and what it costs."""
        return self._resource('delete', '--force')

    def _resource(self, verb: str, *flags: str) -> Argv:
        kind = ('gcloud', 'compute', 'tpus', 'queued-resources')
        return (*kind, verb, self.name, *flags, *self.where, '--quiet')

    def _vm(self, verb: str, *words: str) -> Argv:
        return ('gcloud', 'compute', 'tpus', 'tpu-vm', verb, *words, *self.where, '--quiet')
