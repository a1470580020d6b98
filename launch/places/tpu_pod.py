"""Cloud TPU VMs: asks for a slice, runs the command on all its hosts, deletes it.

This `lm`, with files such as --config=FILE.py, is copied to each host and installed there. When the
TPUs are preempted, or the command is told to end (143), they are asked for anew and the run goes on
from its last checkpoint; a command that fails by itself is not repeated. In the end the hosts' logs
are fetched and the TPUs deleted.
The command does not hang on the connection: Ctrl-C leaves TPUs and run as they are, and says how to
come back to them (--attach) and how to end what they cost.
"""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lm.errors import UserError
from lm.fields import require, setting

from ._command import connected, require_devices
from ._environment import variables
from ._names import require_name
from ._slices import TPUS, find_accelerator_type, tpu_vm_hosts
from ._storage import require_lasting, require_shared_cache, shared_folders
from ._tpu_vm import (
    ARCHIVE,
    HOME,
    RUN,
    Argv,
    Calls,
    command_script,
    extras_of,
    files_of,
    find_source,
    install_script,
    pack,
)

POLL_SECONDS = 30.0
LOOKS = 4
"""At what gcloud says of the TPUs after a failure, for a preemption shows there late."""
CONNECTIONS = 10
"""That may break one after another while the TPUs are there."""
LASTING_SECONDS = 3600.0
"""After which a connection is no failure when it breaks."""

DELETIONS = 5
"""Tries to delete TPUs."""

TOLD_TO_END = 128 + signal.SIGTERM
"""With which `lm train` ends after SIGTERM, its state saved."""

LOST = ('FAILED', 'SUSPENDING', 'SUSPENDED', 'DELETING')
"""States of a queued resource that has no TPUs, or will not have them any more."""
DEAD = ('PREEMPTED', 'TERMINATED', 'STOPPING', 'STOPPED', 'DELETING')
"""States of a TPU VM that runs nothing any more."""


@dataclass(frozen=True)
class Setting:
    """Which TPUs are asked for, and what runs there."""

    accelerator_type: str = setting('', 'v5litepod-16, v5p-128, v6e-256, v4-32 ...')
    zone: str = setting('', 'of Google Cloud that has such TPUs, us-east5-b say')
    project: str = setting('', "of Google Cloud; empty: that of gcloud's configuration")
    name: str = setting('lm', 'of the queued resource and of its TPU VM')
    runtime_version: str = setting('', 'the software of the TPU VM; empty: that for JAX')
    spot: bool = setting(False, 'cheaper, and preempted at any time')
    create_flags: tuple[str, ...] = setting((), 'more flags for create, --reserved,--network=N say')
    wait_hours: float = setting(24.0, 'in the queue, at most')
    relaunches: int = setting(20, 'how many times TPUs that were preempted are asked for anew')
    keep: bool = setting(False, 'do not delete the TPUs at the end')
    attach: bool = setting(False, 'come back to TPUs that run the command already')
    source: str = setting('', 'a checkout or a wheel of lm; empty: the checkout that this lm is of')
    setup: str = setting(
        '', 'a line of bash, run on each host before lm is installed: a mount, say'
    )
    env: tuple[str, ...] = setting((), 'NAME=VALUE, or NAME alone with the value that it has here')
    shared: tuple[str, ...] = setting(
        ('/mnt',), 'folders that all hosts share and that outlive them'
    )
    logs: str = setting('launched', 'a folder here for what is copied there, and for their logs')

    def __post_init__(self) -> None:
        """Refuses what cannot be asked for."""
        require(self.accelerator_type != '', '--accelerator_type: missing; give one, v5p-128 say')
        require(self.zone != '', '--zone: missing; give one that has such TPUs, us-east5-b say')
        require_name('name', self.name)
        require(self.wait_hours > 0, f'--wait_hours={self.wait_hours}: must be above 0')
        require(self.relaunches >= 0, f'--relaunches={self.relaunches}: must be at least 0')


@dataclass(frozen=True)
class Plan:
    """All that is written and executed for one command.

    Attributes:
      calls: of gcloud.
      create: the call that asks for the TPUs.
      folder: here; what is copied lies in its folder `HOME`, logs beside that.
      files: by their names in that folder.
      pack: the call that makes the archive there.
    """

    calls: Calls
    create: Argv
    folder: Path
    files: dict[str, str]
    pack: Argv

    @property
    def sent(self) -> Path:
        """What is copied to each host."""
        return self.folder / HOME

    @property
    def copy(self) -> Argv:
        """The call that does."""
        return self.calls.copy(self.sent)

    @property
    def install(self) -> Argv:
        """The call that installs it."""
        return self.calls.execute(f'bash {HOME}/install.sh')

    @property
    def run(self) -> Argv:
        """The call that starts the command, or comes back to it, and ends as it ends."""
        return self.calls.execute(f'bash {HOME}/run.sh')

    @property
    def result(self) -> Argv:
        """The call that ends as the command ended."""
        return self.calls.execute(f'exit "$(cat {HOME}/status)"')

    def gather(self, logs: Path) -> Argv:
        """The call that fetches the hosts' logs, and fails where the command has not ended."""
        line = f'test -e {HOME}/status && cat {HOME}/log'
        return self.calls.execute(line, f'--output-directory={logs}')

    def next_logs(self) -> Path:
        """A folder for logs that is not there yet."""
        taken = [int(path.name[5:]) for path in self.folder.glob('logs_[0-9]*')]
        return self.folder / f'logs_{max(taken, default=0) + 1}'


def make_plan(setting: Setting, command: Argv) -> Plan:
    """What `describe` tells and `start` executes.

    Raises:
      UserError: a setting or the command does not fit, or what the run keeps would be lost.
    """
    asked = find_accelerator_type(setting.accelerator_type)
    hosts = tpu_vm_hosts(asked)
    require_devices(command, asked.chips)
    environment = variables(setting.env)
    remedy = f'a folder below {" or ".join(setting.shared)} (--shared), mounted by --setup'
    require_lasting(command, setting.shared, remedy)
    require_shared_cache(command, environment, setting.shared, hosts, remedy)
    source = find_source(setting.source)
    folder = Path(setting.logs) / setting.name
    project = (f'--project={setting.project}',) if setting.project else ()
    calls = Calls(setting.name, (f'--zone={setting.zone}', *project))
    create = calls.create(
        (
            f'--accelerator-type={setting.accelerator_type}',
            f'--runtime-version={setting.runtime_version or TPUS[asked.kind].runtime}',
            # Also without us, who may be gone by then, it does not wait longer.
            f'--valid-until-duration={round(setting.wait_hours * 3600)}s',
            *(('--spot',) if setting.spot else ()),
            *setting.create_flags,
        )
    )
    words = connected(command, hosts, ('--distributed', '--connect_seconds=600'))
    files = {
        'install.sh': install_script(
            source, extras_of(command), setting.setup, shared_folders(command, environment)
        ),
        'command.sh': command_script(words, environment),
        'run.sh': RUN,
    }
    packed = pack(source, files_of(command), folder / HOME / ARCHIVE)
    return Plan(calls, create, folder, files, packed)


def describe(setting: Setting, command: Argv) -> str:
    """The files that are written here, then the calls in their order."""
    plan = make_plan(setting, command)
    parts = [f'# {plan.sent / name}\n{text}' for name, text in plan.files.items()]
    until = f'# every {POLL_SECONDS:.0f} s until ACTIVE, for {setting.wait_hours:g} h at most'
    calls = [
        shlex.join(plan.pack),
        shlex.join(plan.create),
        f'{shlex.join(plan.calls.state())}  {until}',
        shlex.join(plan.copy),
        shlex.join(plan.install),
        shlex.join(plan.run),
        shlex.join(plan.gather(plan.next_logs())),
        shlex.join(plan.calls.delete()),
    ]
    if setting.attach:
        del calls[:5]
    if setting.keep:
        del calls[-1]
    again = (
        f'# if the TPUs are preempted: delete, and again from create, {setting.relaunches} times'
    )
    return '\n'.join([*([] if setting.attach else parts), *calls, again])


def start(setting: Setting, command: Argv) -> int:
    """Runs the command there to its end; returns its exit status.

    Raises:
      UserError: gcloud is not there or refuses, or the TPUs do not come, or not again.
    """
    plan = make_plan(setting, command)
    if shutil.which('gcloud') is None:
        raise UserError(
            "gcloud: not found; install Google Cloud's command line and log in, or use --dry_run"
        )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _Launch(setting, plan).run()
    finally:
        signal.signal(signal.SIGTERM, before)


class _Preempted(Exception):
    """The TPUs are gone, or going."""


class _Launch:
    """One command under way."""

    def __init__(self, setting: Setting, plan: Plan):
        self._setting, self._plan = setting, plan
        self._there = setting.attach

    def run(self) -> int:
        """Until the command has ended; what is left there, however it comes, is told of."""
        try:
            return self._run()
        finally:
            self._tell_costs()

    def _run(self) -> int:
        """On however many TPUs, one after another."""
        for left in range(self._setting.relaunches, -1, -1):
            try:
                return self._once()
            except _Preempted as error:
                self._tell(f'{error}; {left} relaunches left')
                self._delete()
        raise UserError(
            f'--relaunches={self._setting.relaunches}: the TPUs were preempted once more; the run '
            'goes on from its last checkpoint when launched again'
        )

    def _once(self) -> int:
        """On one set of TPUs.

        Raises:
          _Preempted: they are gone before the end.
        """
        if not self._there:
            self._write()
            self._create()
            try:
                self._wait()
                self._do(self._plan.copy, 'lm could not be copied there')
                self._do(self._plan.install, 'lm could not be installed there')
            except UserError:
                if not self._setting.keep:
                    self._delete()
                raise
        status = self._follow()
        if not self._setting.keep:
            self._delete()
        return status

    def _write(self) -> None:
        self._plan.sent.mkdir(parents=True, exist_ok=True)
        for name, text in self._plan.files.items():
            path = self._plan.sent / name
            path.touch(mode=0o600)  # variables may be secret
            path.write_text(text)
        self._do(self._plan.pack, 'the source could not be packed')

    def _create(self) -> None:
        self._there = True  # or may be, if we are interrupted
        done = _call(self._plan.create)
        if done.returncode:
            self._there = False
            raise UserError(f'--name={self._setting.name}: not created ({_error(done)})')

    def _wait(self) -> None:
        """Until the TPUs are there.

        Raises:
          UserError: they do not come.
          _Preempted: they came and went.
        """
        deadline, last = time.monotonic() + self._setting.wait_hours * 3600, ''
        while (state := self._state()) != 'ACTIVE':
            if state == 'FAILED':
                reason = ' '.join(_call(self._plan.calls.reason()).stdout.split())
                raise UserError(
                    f'--name={self._setting.name}: the request for '
                    f'{self._setting.accelerator_type} failed ({reason or "no reason given"})'
                )
            if state in LOST:
                raise _Preempted(f'{self._setting.name} is {state}')
            if time.monotonic() > deadline:
                raise UserError(
                    f'--wait_hours={self._setting.wait_hours:g}: {self._setting.name} is still '
                    f'{state} and is given up; give more, or another --zone'
                )
            if state != last:
                self._tell(f'{self._setting.name} is {state}')
                last = state
            time.sleep(POLL_SECONDS)

    def _follow(self) -> int:
        """Follows the command to its end; fetches the logs; returns the exit status.

        Raises:
          _Preempted: the TPUs are gone before.
          UserError: they are there, and cannot be connected to.
        """
        broken = 0
        while broken < CONNECTIONS:
            begun = time.monotonic()
            status = _show(self._plan.run)
            if status:
                self._watch()
            if self._gather():
                # The connection, or gcloud, may have failed, and not the command.
                status = status and _call(self._plan.result).returncode
                if status == TOLD_TO_END:
                    raise _Preempted(f'{self._setting.name} was told to end')
                return status
            broken = broken + 1 if time.monotonic() - begun < LASTING_SECONDS else 1
            self._tell(f'the connection broke (status {status}); the command goes on; once more')
        raise UserError(f'--name={self._setting.name}: is there, but cannot be connected to')

    def _watch(self) -> None:
        """Looks for a while whether a failure is the TPUs' end.

        Raises:
          _Preempted: it is.
        """
        for _ in range(LOOKS):
            health = _call(self._plan.calls.health()).stdout.strip()
            for state, ends in ((self._state(), LOST), (health, DEAD)):
                if state in ends:
                    raise _Preempted(f'{self._setting.name} is {state}')
            time.sleep(POLL_SECONDS)

    def _state(self) -> str:
        """As gcloud says it; `unknown` where it cannot now.

        Raises:
          UserError: there is no such resource.
        """
        done = _call(self._plan.calls.state())
        if done.returncode == 0:
            return done.stdout.strip()
        if 'NOT_FOUND' in done.stderr:
            self._there = False
            raise UserError(
                f'--name={self._setting.name}: is not there (any more); somebody ended it'
            )
        return 'unknown'

    def _gather(self) -> bool:
        """Fetches the logs; whether the command has ended on every host."""
        logs = self._plan.next_logs()
        logs.mkdir(parents=True)
        if _call(self._plan.gather(logs)).returncode:
            shutil.rmtree(logs)
            return False
        self._tell(f'logs of the hosts are in {logs}')
        return True

    def _do(self, argv: Argv, refusal: str) -> None:
        """Executes a step whose output the user sees.

        Raises:
          _Preempted: it failed since the TPUs are gone.
          UserError: it failed by itself.
        """
        status = _show(argv)
        if status and self._there:
            self._watch()
        if status:
            raise UserError(f'--name={self._setting.name}: {refusal} (status {status}, see above)')

    def _delete(self) -> None:
        """Ends what the TPUs cost; those that are being preempted may refuse for a while.

        Raises:
          UserError: they cannot be deleted.
        """
        for _ in range(DELETIONS if self._there else 0):
            done = _call(self._plan.calls.delete())
            if done.returncode == 0:
                self._there = False
                self._tell(f'{self._setting.name} is deleted')
                return
            time.sleep(POLL_SECONDS)
        if self._there:
            raise UserError(f'--name={self._setting.name}: could not be deleted ({_error(done)})')

    def _tell_costs(self) -> None:
        if self._there:
            self._tell(f'{self._setting.name} goes on, and costs; come back to it by --attach')
            self._tell(f'its end: {shlex.join(self._plan.calls.delete())}')

    def _tell(self, words: str) -> None:
        print(f'lm launch: {words}', file=sys.stderr, flush=True)


def _show(argv: Argv) -> int:
    """Executes a call whose output is for the user; returns the exit status."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL).returncode


def _call(argv: Argv) -> subprocess.CompletedProcess[str]:
    """Executes a call whose output is not for the user."""
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def _error(done: subprocess.CompletedProcess[str]) -> str:
    """What gcloud complains of, without what it said before."""
    return ' '.join(done.stderr[max(done.stderr.find('ERROR:'), 0) :].split())
