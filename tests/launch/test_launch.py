"""`lm launch`: exactly what would be executed, and what is said of a mistake before anything is."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from launch.main import main
from launch.places import names

GOLDEN = Path(__file__).parent / 'golden'
AWKWARD = ("--workdir=runs/it's $HOME", '--config=llama_tiny', '--config.data.source=a b/*.txt')


def dry_run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What `--dry_run` prints, this Python being called PYTHON."""
    place, *rest = words
    assert main(['launch', place, '--dry_run', *rest]) == 0
    out = capsys.readouterr().out
    assert sys.executable in out
    return out.replace(sys.executable, 'PYTHON')


def test_two_local_processes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')
    flags = ['--num_processes=2', '--devices=4', '--port=9800']
    out = dry_run(capsys, 'local', *flags, '--', 'train', *AWKWARD)
    assert out == (GOLDEN / 'local.txt').read_text()


def test_a_process_for_each_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,2,3,5')
    monkeypatch.delenv('JAX_PLATFORMS')
    out = dry_run(capsys, 'local', '--port=9800', '--', 'train', '--workdir=run')
    assert out == (GOLDEN / 'local_gpus.txt').read_text()
    out = dry_run(capsys, 'local', '--num_processes=2', '--', 'train', '--workdir=run')
    shares = [line.split()[1] for line in out.splitlines()]
    assert shares == ['CUDA_VISIBLE_DEVICES=0,3', 'CUDA_VISIBLE_DEVICES=2,5']


def test_a_slurm_job(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('XLA_FLAGS')
    flags = [
        '--nodes=2', '--gpus_per_node=4', '--cpus_per_task=12', '--time=1-12:00:00',
        '--partition=gpu', '--account=lm lab', '--job_name=big', '--logs=my logs',
        '--extra=--mem=0,--exclusive',
    ]  # fmt: skip
    out = dry_run(capsys, 'slurm', *flags, '--', 'train', *AWKWARD)
    assert out == (GOLDEN / 'slurm.txt').read_text()
    flags = ['--devices=4', '--tasks_per_node=2', '--norequeue', '--signal_seconds=0']
    out = dry_run(capsys, 'slurm', *flags, '--', 'train', '--workdir=run')
    assert out == (GOLDEN / 'slurm_once.txt').read_text()


def test_a_sweep_by_slurm_is_the_array_of_lm_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ['--gpus_per_node=1', '--time=60', '--partition=gpu']
    sweep = ['sweep', '--experiment=chinchilla', '--workdir=my sweep']
    out = dry_run(capsys, 'slurm', *flags, '--', *sweep)
    assert out == (GOLDEN / 'slurm_sweep.txt').read_text()


def test_what_is_executed_is_what_was_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # An sbatch that prints the script it was given; bash, given the dry run, does the same.
    sbatch = tmp_path / 'bin' / 'sbatch'
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncat "$1"\nexit 3\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv('PATH', f'{sbatch.parent}:{os.environ["PATH"]}')
    monkeypatch.chdir(tmp_path)
    words = ['slurm', '--logs=my logs', '--', 'train', *AWKWARD]
    with pytest.raises(SystemExit, match='3'):
        main(['launch', *words])
    submitted = capfd.readouterr().out
    assert main(['launch', 'slurm', '--dry_run', *words[1:]]) == 0
    told = capfd.readouterr().out
    (tmp_path / 'other').mkdir()
    done = subprocess.run(
        ['bash', '-c', told], cwd=tmp_path / 'other', capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (3, submitted)
    # The line that starts the tasks comes through bash as the words that it was made of.
    [line] = [line for line in submitted.splitlines() if line.startswith('srun')]
    assert shlex.split(line.removesuffix(' &'))[-4:] == ['train', *AWKWARD]


def test_the_help_lists_the_places_and_of_a_place_its_flags(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['launch', '--help']) == 0
    out = capsys.readouterr().out
    assert all(f'\n  {name} ' in out for name in names())
    assert '--num_processes' not in out
    assert main(['launch', 'local', '--help', '--', 'train', '--help']) == 0
    assert '--num_processes=none\n      int or none: how many' in capsys.readouterr().out


TRAIN = ('--', 'train', '--workdir=run')


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        ((), 'PLACE: missing; give one of '),
        (TRAIN, 'PLACE: missing; give one of '),
        (('lcal', *TRAIN), "'lcal': no such place; did you mean local?"),
        (('--devices=4', 'local', *TRAIN), '--devices: no such flag; '),
        (('local', 'here', *TRAIN), "'here': not a flag; PLACE comes first, and the command after"),
        (('local', '--num_processes=2', 'train'), "'train': not a flag; PLACE comes first, and"),
        (('local', '--num_processes=2'), '--: missing; give the command after it: lm launch local'),
        (('local', '--num_processes=2', '--'), '--: missing; give the command after it: '),
        (('local', '--', 'trian'), "'trian': no such verb to launch; did you mean train?"),
        (('local', '--', 'launch', 'local'), "'launch': no such verb to launch"),
        (
            ('local', '--num_processes=2', *TRAIN, '--config.model.num_layer=2'),
            'train: --config.model.num_layer: no such field; did you mean --config.model.num_laye',
        ),
        (
            ('local', '--num_processes=2', *TRAIN, '--config.model.d_model=7'),
            'train: model.num_heads=4: does not divide model.d_model=7',
        ),
        (('local', '--num_processes=2', '--', 'train'), 'train: --workdir: missing'),
        (
            ('local', '--num_processes=2', *TRAIN, '--process_id=1'),
            'train: --process_id=1: the launcher gives it; leave it out',
        ),
        (
            ('local', '--num_processes=2', '--', 'plan'),
            'plan: runs in one process, and there would be 2; ask for one',
        ),
        (('local', *TRAIN), '--num_processes: missing, and there is no GPU here; give how many'),
        (('local', '--num_processes=0', *TRAIN), '--num_processes=0: must be at least 1'),
        (('local', '--num_processes=2', '--devices=0', *TRAIN), '--devices=0: must be at least 1'),
        (('local', '--num_processes=2', '--port=70000', *TRAIN), '--port=70000: must be in [0,'),
        (
            ('local', '--num_processes=2', '--devices=2', *TRAIN, '--config.mesh.devices=8'),
            'train: mesh.devices=8: there are 4 devices; give at most that',
        ),
        (('slurm', '--nodes=0', *TRAIN), '--nodes=0: must be at least 1'),
        (('slurm', '--signal_seconds=-1', *TRAIN), '--signal_seconds=-1: must be at least 0'),
        (('slurm', '--time=soon', *TRAIN), '--time=soon: must be MINUTES, HOURS:MINUTES:SECONDS'),
        (('slurm', '--job_name=a/b', *TRAIN), '--job_name=a/b: must be letters, digits, _, . and '),
        (('slurm', '--logs=', *TRAIN), '--logs: missing; give a folder'),
        (('slurm', '--account=a\nb', *TRAIN), '--account=a b: must be one line'),
        (('slurm', '--extra=mem=0', *TRAIN), '--extra=mem=0: must be an option of sbatch, such as'),
        (
            ('slurm', '--gpus_per_node=4', '--tasks_per_node=1', *TRAIN),
            '--tasks_per_node=1: under Slurm each process drives one of the 4 GPUs; leave it out',
        ),
        (
            ('slurm', '--gpus_per_node=4', '--devices=1', *TRAIN),
            '--devices=1: emulates CPU devices; leave out GPUs',
        ),
        (
            ('slurm', '--nodes=2', '--gpus_per_node=4', *TRAIN, '--config.mesh.fsdp=16'),
            'train: mesh.fsdp=16: the axes hold 16 devices and there are 8; ',
        ),
        (('slurm', '--nodes=2', '--', 'evaluate'), 'evaluate: runs in one process, and there woul'),
        (('slurm', *TRAIN, '--distributed'), 'train: --distributed: the launcher gives it'),
        (('slurm', *TRAIN), 'slurm: sbatch is not here; launch on a machine of the cluster'),
        (('slurm', '--nodes=2', '--', 'sweep'), '--nodes: not of a sweep, each run of which is on'),
        (
            ('slurm', '--', 'sweep', '--slurm=slurm_time=3'),
            'sweep: --slurm=slurm_time=3: the launcher gives it; leave it out',
        ),
        (
            ('local', '--num_processes=2', '--devices=2', *TRAIN, '--config.mesh.tensor=8'),
            'train: mesh.tensor=8: the axes hold 8 devices and there are 4; ',
        ),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PATH', '')
    assert main(['launch', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1
    assert captured.err.startswith(f'lm launch: {told}')
