"""Makes the runs of an experiment, resumably: one row of `runs.jsonl` each, failures too.

`--experiment` is a FILE.py, or the name of one that ships (`chinchilla`, `objectives`), that
defines `configs(setting) -> {name: Config}` and a dataclass `Setting`, each field of which is a
flag here; without settings `configs()`. Every run has its own process and its own folder
`runs/KEY`, a workdir like any other, KEY a hash of its config. Started again after whatever ended
it, a sweep goes on: runs that ended are not made again, others go on from their checkpoints. A run
that fails is a row with its `error`, and the others are made.
"""

import ast
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from lm.config import Config
from lm.errors import UserError, did_you_mean
from lm.flags import Flags
from lm.named_configs import run_file
from lm.storage import require_disk
from lm.sweep import Sweep
from lm.sweep.local import cores_here, gpus_here, places, run_here
from lm.sweep.slurm import run_on_slurm
from lm.sweep.sweep import Launcher

EXPERIMENTS = 'experiments' if __package__ == 'launch' else 'lm_experiments'
"""What the package of experiments is called beside this one."""


def define_flags(flags: Flags) -> None:
    """Which experiment, with its settings, and where its runs are made."""
    flags.define('experiment', str, '', 'FILE.py, or the name of an experiment that ships')
    flags.define('workdir', str, '', 'the folder of the sweep')
    flags.define('at_once', int, 1, 'runs that go at the same time, each with its share of cores')
    flags.define('retry_failed', bool, False, 'make runs that failed again')
    flags.define('describe', bool, False, 'list the runs and what is left to do, and stop')
    flags.define('launcher', Literal['local', 'slurm'], 'local', 'here, or an array of Slurm jobs')
    flags.define(
        'slurm', tuple[str, ...], (),
        'NAME=VALUE of submitit, such as timeout_min=60,gpus_per_node=1,slurm_partition=gpu',
    )  # fmt: skip
    if named := flags.peek('experiment'):
        setting = getattr(_experiment(named), 'Setting', None)
        if setting is not None:
            flags.define_setting(setting)


def main(flags: Flags) -> None:
    """Makes the runs that are left, and says where their rows are."""
    named, workdir = flags.required('experiment'), flags.required('workdir')
    require_disk('--workdir', workdir)
    launch = _launcher(flags)
    configs = _configs(_experiment(named), flags)
    given = flags['import']
    files = tuple(
        str(Path(file).resolve()) for file in (given, named) if file and file.endswith('.py')
    )
    sweep = Sweep(Path(workdir).expanduser(), configs, files)
    if flags['describe']:
        print(_description(sweep))
        return
    rows = sweep.make(launch, retry_failed=flags['retry_failed'])
    if others := sweep.others():
        words = f'{others} runs in {sweep.folder} are of other settings: not in runs.jsonl'
        print(f'sweep: {words}', file=sys.stderr)
    if len(rows) < len(configs):
        raise UserError(
            f'{len(configs) - len(rows)} of {len(configs)} runs were ended by a signal; start again'
        )
    failed = [row for row in rows if row['error'] is not None]
    if failed and len(failed) == len(configs):
        raise UserError(f'all {len(failed)} runs failed; the first by: {failed[0]["error"]}')
    print(f'{sweep.runs_file}  {len(rows) - len(failed)} runs, {len(failed)} failed')


def _launcher(flags: Flags) -> Launcher:
    """What makes runs, by `--launcher`.

    Raises:
      UserError: its flags do not fit together, or this machine.
    """
    at_once, parameters = flags['at_once'], _parameters(flags['slurm'])
    if flags['launcher'] == 'slurm':
        folder = Path(flags['workdir']).expanduser() / 'slurm'
        return lambda jobs, ended: run_on_slurm(jobs, folder, at_once, parameters, ended)
    if flags['slurm']:
        raise UserError('--slurm: needs --launcher=slurm')
    try:
        places(at_once, cores_here(), gpus_here())
    except UserError as error:
        raise UserError(f'--{error}') from None
    return lambda jobs, ended: run_here(jobs, at_once, ended)


def _experiment(named: str) -> ModuleType:
    """The module of an experiment: a user's file, or one that ships.

    Raises:
      UserError: there is none, or it yields no configs.
    """
    if named.endswith('.py'):
        module = run_file(named, '--experiment')
    else:
        names = _shipped()
        if named not in names:
            raise UserError(
                f'--experiment={named}: no such experiment{did_you_mean(named, names)}; '
                f'there are {", ".join(names)}, and FILE.py'
            )
        module = importlib.import_module(f'{EXPERIMENTS}.{named}')
    if not hasattr(module, 'configs'):
        raise UserError(f'--experiment={named}: defines no configs(setting) -> {{name: Config}}')
    return module


def _shipped() -> list[str]:
    """The experiments whose files define what a sweep needs, by reading them only."""
    folder = Path(next(iter(importlib.import_module(EXPERIMENTS).__path__)))
    return sorted(path.stem for path in folder.glob('[!_]*.py') if _yields_configs(path))


def _yields_configs(path: Path) -> bool:
    """Whether a file defines `configs` of one argument."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name == 'configs' and len(node.args.args) <= 1
        for node in ast.parse(path.read_text(encoding='utf-8')).body
    )


def _configs(module: ModuleType, flags: Flags) -> Mapping[str, Config]:
    given = (flags.setting(module.Setting),) if hasattr(module, 'Setting') else ()
    configs = module.configs(*given)
    if not isinstance(configs, Mapping) or not all(
        isinstance(one, Config) for one in configs.values()
    ):
        raise UserError(f'--experiment={flags["experiment"]}: configs is no {{name: Config}}')
    return configs


def _description(sweep: Sweep) -> str:
    lines = []
    for job in sweep.jobs:
        row = job.row()
        state = 'to do' if row is None else 'failed' if row['error'] is not None else 'ended'
        lines.append(f'{job.folder.name}  {state:<6}  {job.name}')
    return '\n'.join(lines)


def _parameters(words: tuple[str, ...]) -> dict[str, Any]:
    """`timeout_min=60` as submitit takes it: whole numbers as such, the rest as text."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not (name and equals and value):
            raise UserError(f'--slurm={word}: must be NAME=VALUE, such as timeout_min=60')
        found[name] = int(value) if value.isdigit() else value
    return found
