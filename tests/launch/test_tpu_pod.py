"""`lm launch tpu_pod` with what stands for gcloud: calls, hosts' commands, preemption, mistakes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch.main import main
from launch.places import _slices, tpu_pod
from tests.launch import fake_gcloud

ROOT = Path(__file__).parent.parent.parent
GOLDEN = Path(__file__).parent / 'golden'
TPUS = [
    '--accelerator_type=v5litepod-16',
    '--zone=us-east5-b',
    '--name=pod',
    '--env=LM_CACHE=/mnt/c',
]
TRAIN = ['train', '--config=llama_tiny', '--workdir=gs://bucket/run']
AWKWARD = [
    'train', '--config=mine.py:small', '--workdir=/mnt/runs/a b', "--config.data.source=it's",
    '--config.data.text_field="$HOME" `id` \\ $(id) ~ * !',
    '--config.data.cache_dir=/mnt/é\nline two',
]  # fmt: skip


COSTS = (
    'lm launch: pod goes on, and costs; come back to it by --attach\n'
    'lm launch: its end: gcloud compute tpus queued-resources delete pod --force '
    '--zone=us-east5-b --quiet\n'
)
MINE = """\
from lm.named_configs import named_config

def config(preset):
    return named_config('bert_tiny' if preset else 'llama_tiny')
"""


class Cloud:
    """The play, and what came of it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.set()

    def set(self, **play: Any) -> None:
        """Sets what will happen."""
        usual = {
            'waits': [['WAITING_FOR_RESOURCES', 'ACTIVE']], 'ends': [0], 'states': ['ACTIVE'],
        }  # fmt: skip
        (self._folder / 'play.json').write_text(json.dumps({**usual, **play}))

    def calls(self) -> list[str]:
        """What gcloud was asked for, a word each; looks at the state are left out."""
        return [words[3] for words in self.lines('calls') if words[3] != 'describe']

    def started(self) -> list[list[str]]:
        """The words with which lm was started on host 0."""
        return [one['argv'] for one in self.lines('started') if one['host'] == '0']

    def lines(self, name: str) -> list[Any]:
        """What was kept in a file, of JSON lines."""
        file = self._folder / f'{name}.jsonl'
        return [json.loads(line) for line in file.open()] if file.exists() else []

    def installs(self) -> str:
        """What Python was asked for on the hosts."""
        return (self._folder / 'installs').read_text()


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A Google Cloud in a folder, and a small checkout to send there."""
    fake_gcloud.install(tmp_path / 'cloud', tmp_path / 'bin')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'), prepend=':')
    monkeypatch.setattr(tpu_pod, 'POLL_SECONDS', 0.01)
    monkeypatch.setattr(tpu_pod, 'LOOKS', 1)
    here, checkout = tmp_path / 'here', tmp_path / 'checkout'
    for name in ('lm', 'launch', 'experiments'):
        (checkout / name / '__pycache__').mkdir(parents=True)
    for name in ('pyproject.toml', 'setup.py', 'constraints.txt', 'README.md', 'LICENSE'):
        (checkout / name).write_text(name)
    here.mkdir()
    monkeypatch.chdir(here)
    return Cloud(tmp_path / 'cloud')


def launch(*flags: str, command: list[str] = TRAIN) -> int:
    try:
        return main(['launch', 'tpu_pod', *TPUS, '--source=../checkout', *flags, '--', *command])
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_a_run_to_its_end(cloud: Cloud, tmp_path: Path, capfd: Any) -> None:
    assert launch('--env=LM_CACHE=/mnt/c,GREETING=it is') == 0
    assert cloud.calls() == ['create', 'scp', 'ssh', 'ssh', 'ssh', 'delete']
    assert sorted(cloud.lines('started'), key=lambda one: str(one['host'])) == [
        {'host': host, 'env': 'it is', 'argv': [*TRAIN, '--distributed', '--connect_seconds=600']}
        for host in '01'
    ]
    for host in '01':
        log = tmp_path / 'here/launched/pod/logs_1' / f'{host}.log'
        assert log.read_text() == f'lm says é {host}\n'
    assert '--constraints=constraints.txt .[tpu,gcs]' in cloud.installs()
    assert 'lm says é 0\nlm says é 1\n' in capfd.readouterr().out


def test_words_arrive_as_they_are_and_the_users_file_with_them(
    cloud: Cloud, tmp_path: Path
) -> None:
    (tmp_path / 'here' / 'mine.py').write_text(MINE)
    assert launch('--keep', command=AWKWARD) == 0
    assert cloud.calls()[-1] == 'ssh'
    assert cloud.started() == [[*AWKWARD, '--distributed', '--connect_seconds=600']]
    for host in '01':
        home = tmp_path / 'cloud/hosts' / host / 'lm'
        assert (home / 'mine.py').read_text() == MINE
        assert (home / 'lm').is_dir() and not (home / 'lm/__pycache__').exists()
    assert '-p /mnt/é\nline two\n' in cloud.installs()


def test_a_file_from_elsewhere_is_refused(cloud: Cloud, tmp_path: Path, capfd: Any) -> None:
    (tmp_path / 'mine.py').write_text(MINE)
    for name in ('../mine.py', f'{tmp_path}/mine.py'):
        assert launch(command=['train', f'--config={name}', '--workdir=gs://bucket/run']) == 2
        assert capfd.readouterr().err == (
            f'lm launch: --config={name}: is copied to each host by its name from the current '
            'folder; give it relative to that, and inside\n'
        )
    assert cloud.calls() == []


def test_a_folder_on_the_hosts_own_disk_is_refused(cloud: Cloud, capfd: Any) -> None:
    command = [*TRAIN[:-1], '--workdir=/data/run']
    assert launch('--shared=/mnt,/data', command=command) == 2
    error = capfd.readouterr().err
    assert 'lm: /data/run: no disk is mounted there; mount it by --setup' in error
    assert 'lm launch: --name=pod: lm could not be installed there (status 2, see above)' in error
    assert cloud.calls() == ['create', 'scp', 'ssh', 'delete'] and not cloud.started()


def test_a_command_that_is_told_to_end_was_preempted(cloud: Cloud, capfd: Any) -> None:
    cloud.set(ends=[143])
    assert launch('--relaunches=0') == 2
    error = capfd.readouterr().err
    assert 'lm launch: pod was told to end; 0 relaunches left\n' in error
    assert error.splitlines()[-1].startswith('lm launch: --relaunches=0: the TPUs were preempted')
    assert cloud.calls()[-1] == 'delete'


def test_preempted_it_is_launched_again(cloud: Cloud, capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tpu_pod, 'LOOKS', 2)
    cloud.set(
        waits=[['ACTIVE'], ['PROVISIONING', 'ACTIVE']], ends=['preempted', 0],
        after=['ACTIVE', 'SUSPENDING'], deletions=[1],
    )  # fmt: skip
    assert launch('--spot') == 0
    once = ['create', 'scp', 'ssh', 'ssh']
    # A preemption shows at the second look; the first deletion is refused meanwhile.
    assert cloud.calls() == [*once, 'delete', 'delete', *once, 'ssh', 'delete']
    assert len(cloud.started()) == 2
    assert 'pod is SUSPENDING; 20 relaunches left' in capfd.readouterr().err


def test_a_host_that_is_dead_is_a_preemption(cloud: Cloud, capfd: Any) -> None:
    cloud.set(ends=[255], health='PREEMPTED')
    assert launch('--relaunches=0') == 2
    assert cloud.calls()[-1] == 'delete' and cloud.calls().count('create') == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith('lm launch: --relaunches=0: the TPUs were preempted once more')


def test_a_failing_command_is_not_repeated(cloud: Cloud, tmp_path: Path) -> None:
    cloud.set(ends=[3])
    assert launch() == 3
    assert cloud.calls() == ['create', 'scp', 'ssh', 'ssh', 'ssh', 'ssh', 'delete']
    assert len(cloud.started()) == 1
    assert (tmp_path / 'here/launched/pod/logs_1/1.log').exists()


def test_a_host_that_cannot_be_reached_is_left_and_told_of(cloud: Cloud, capfd: Any) -> None:
    cloud.set(ends=[0], unreachable=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpu_pod, 'CONNECTIONS', 2)
        assert launch('--attach') == 2
    error = capfd.readouterr().err
    assert error.count('the connection broke (status 255)') == 2
    assert error.endswith('--name=pod: is there, but cannot be connected to\n') and COSTS in error
    assert 'delete' not in cloud.calls()


def test_a_broken_connection_does_not_start_it_twice(cloud: Cloud) -> None:
    cloud.set(ends=['broken', 0])
    assert launch() == 0
    assert len(cloud.started()) == 1
    assert cloud.calls() == ['create', 'scp', 'ssh', 'ssh', 'ssh', 'ssh', 'delete']
    assert cloud.calls().count('create') == 1


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """What a terminal's Ctrl-C does to Python; a shell's background processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures('ctrl_c')
def test_ctrl_c_leaves_it_and_attach_comes_back(cloud: Cloud, capfd: Any) -> None:
    cloud.set(ends=['interrupted'])
    assert launch() == 130
    assert 'delete' not in cloud.calls()
    assert COSTS in capfd.readouterr().err
    before = len(cloud.calls())
    cloud.set()
    assert launch('--attach', '--keep') == 0
    assert cloud.calls()[before:] == ['ssh', 'ssh']


@pytest.mark.parametrize(
    ('play', 'flags', 'said', 'calls'),
    [
        (
            {'refusal': 'RESOURCE_EXHAUSTED: Quota limit\n  has been exceeded.'}, [],
            '--name=pod: not created (ERROR: (gcloud) RESOURCE_EXHAUSTED: Quota limit has been '
            'exceeded.)', ['create'],
        ),
        (
            {'waits': [['FAILED']], 'reason': 'no capacity'}, [],
            '--name=pod: the request for v5litepod-16 failed (no capacity)', ['create', 'delete'],
        ),
        (
            {'waits': [['WAITING_FOR_RESOURCES']]}, ['--wait_hours=1e-5'],
            '--wait_hours=1e-05: pod is still WAITING_FOR_RESOURCES and is given up; give more, or '
            'another --zone', ['create', 'delete'],
        ),
        (
            {'ends': ['preempted'], 'deletions': [1, 1, 1, 1, 1]}, [],
            '--name=pod: could not be deleted (ERROR: it is being suspended)',
            ['create', 'scp', 'ssh', 'ssh', *['delete'] * 5],
        ),
    ],
)  # fmt: skip
def test_refusals(
    play: dict[str, Any], flags: list[str], said: str, calls: list[str], cloud: Cloud, capfd: Any
) -> None:
    cloud.set(**play)
    assert launch(*flags) == 2
    error = capfd.readouterr().err
    assert error.splitlines()[-1] == f'lm launch: {said}'
    assert cloud.calls() == calls
    # What is left there is told of, and nothing is left unless it cannot be deleted.
    assert (COSTS in error) == ('could not be deleted' in said)


def test_without_gcloud(cloud: Cloud, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert launch() == 2
    assert capfd.readouterr().err == (
        "lm launch: gcloud: not found; install Google Cloud's command line and log in, or use "
        '--dry_run\n'
    )


@pytest.mark.parametrize(
    ('flags', 'command', 'said'),
    [
        (['--accelerator_type=v5e-16'], TRAIN, 'no such type; did you mean v5litepod-16?'),
        (['--accelerator_type=v5p-12'], TRAIN, 'no such type; there are v5p-8, v5p-16, v5p-32'),
        (['--accelerator_type=h100'], TRAIN, 'N being its size there are v4-N, v5litepod-N'),
        (['--accelerator_type='], TRAIN, '--accelerator_type: missing'),
        (['--zone='], TRAIN, '--zone: missing'),
        (['--name=Pod_1'], TRAIN, '--name=Pod_1: must be small letters, digits and hyphens'),
        (['--env=NOT_SET_ANYWHERE'], TRAIN, 'not set here; give NOT_SET_ANYWHERE=VALUE'),
        (['--env=A-B=c'], TRAIN, '--env=A-B=c: must be NAME=VALUE'),
        (['--env='], TRAIN, '--config.data.cache_dir: missing; 4 hosts read one cache'),
        (['--source=nowhere'], TRAIN, '--source=nowhere: no checkout of lm; give the folder'),
        (['--source=no.whl'], TRAIN, '--source=no.whl: no such file'),
        ([], [*TRAIN[:-1], '--workdir=runs/x'], '--workdir=runs/x: would be lost with the machine'),
        ([], [*TRAIN[:-1], '--workdir=/mnt/../x'], 'would be lost with the machine'),
        ([], [*TRAIN[:-1], '--workdir=memory://x'], 'would be lost with the machine'),
        ([], [*TRAIN[:-1], '--workdir=gcs://x/y'], '--workdir=gcs://x/y: would be lost'),
        ([], TRAIN[:-1], 'train: --workdir: missing'),
        ([], [*TRAIN, '--distributed'], '--distributed: the launcher gives it; leave it out'),
        ([], [*TRAIN, '--config.mesh.tensor=3'], 'train: '),
        ([], [*TRAIN, '--config.model.num_layer=4'], 'did you mean --config.model.num_layers?'),
        ([], ['evaluate', '--workdir=/mnt/x', '--text=y'], 'runs in one process'),
    ],
)
def test_mistakes(
    flags: list[str], command: list[str], said: str, cloud: Cloud, capfd: Any
) -> None:
    assert launch(*flags, command=command) == 2
    error = capfd.readouterr().err
    assert error.count('\n') == 1 and said in error
    assert cloud.calls() == []


@pytest.mark.parametrize(
    ('name', 'flags', 'command'),
    [
        (
            'spot',
            [
                '--spot', '--project=mine', '--setup=sudo mount 10.0.0.2:/share /mnt',
                '--env=A=b c,LM_CACHE=/mnt/c', '--create_flags=--network=lab',
            ],
            [*TRAIN, '--config.data.text_field=$(id) \'"\n'],
        ),
        ('attach', ['--attach', '--keep', '--relaunches=3'], TRAIN),
        ('one_host', ['--accelerator_type=v6e-8', '--env='], [*TRAIN[:-1], '--workdir=/mnt/run']),
    ],
)  # fmt: skip
def test_dry_runs(
    name: str, flags: list[str], command: list[str], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ['launch', 'tpu_pod', *TPUS, *flags, '--dry_run', '--', *command]
    assert main(words) == 0
    told = capsys.readouterr().out.replace(str(ROOT), 'CHECKOUT')
    assert told == (GOLDEN / f'tpu_pod_{name}.txt').read_text()
    assert not list(tmp_path.iterdir())


def test_what_is_packed_makes_a_wheel_of_all_of_lm(tmp_path: Path) -> None:
    """Of this checkout, by the names that setup.py and pyproject.toml give."""
    from launch.places._tpu_vm import find_source, pack

    archive = tmp_path / 'source.tar.gz'
    subprocess.run(pack(find_source(''), (), archive), check=True)
    names = subprocess.run(['tar', '-tzf', archive], capture_output=True, text=True).stdout.split()
    assert {'pyproject.toml', 'setup.py', 'constraints.txt', 'lm/config.py', 'README.md'} <= set(
        names
    )
    assert {'launch/places/tpu_pod.py', 'experiments/chinchilla.py'} <= set(names)


@pytest.mark.parametrize(
    ('name', 'kind', 'chips', 'hosts'),
    [
        ('v4-8', 'v4', 4, 1), ('v4-32', 'v4', 16, 4), ('v4-4096', 'v4', 2048, 512),
        ('v5litepod-1', 'v5e', 1, 1), ('v5litepod-8', 'v5e', 8, 1), ('v5litepod-16', 'v5e', 16, 4),
        ('v5p-8', 'v5p', 4, 1), ('v5p-128', 'v5p', 64, 16), ('v5p-12288', 'v5p', 6144, 1536),
        ('v6e-8', 'v6e', 8, 1), ('v6e-256', 'v6e', 256, 64),
    ],
)  # fmt: skip
def test_accelerator_types(name: str, kind: str, chips: int, hosts: int) -> None:
    """Of Google Cloud's pages on each generation."""
    found = _slices.find_accelerator_type(name)
    assert (found.kind, found.chips, _slices.tpu_vm_hosts(found)) == (kind, chips, hosts)
