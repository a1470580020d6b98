"""Trains a model, or goes on with a run that has a checkpoint.

A workdir that holds a run goes on by itself, by its own config where --config is not given; what
may change between the two, and what may not, is said in one line. The run's folder holds its
config, metrics, summary and checkpoints.
"""

from lm.config import Config
from lm.errors import UserError
from lm.flags import Flags
from lm.training.workdir import Workdir

from ._files import require_ending, require_writable
from ._processes import connect_processes, define_processes


def define_flags(flags: Flags) -> None:
    """The run's folder, its config, and how to go on."""
    flags.define('workdir', str, '', 'the folder of the run, or its address: gs://, s3://')
    flags.define('describe', bool, False, 'print what would run, and stop')
    flags.define('picture', str, '', 'with --describe: FILE.svg or FILE.png, a picture of it')
    flags.define('strict', bool, False, 'stop where anything else would run than what was asked')
    flags.define('restretch', bool, False, 'let a schedule tied to its end stretch to a new end')
    flags.define('profile_steps', str, '', 'FIRST:LAST: trace these steps, tell what took long')
    flags.define('fork_from', str, '', 'WORKDIR@STEP: start from a checkpoint of another run')
    define_processes(flags)
    workdir = flags.peek('workdir')
    # A config that is given is read first: its file may register the members of the recorded one.
    given = flags.peek('config') is not None
    recorded = Workdir(workdir).read_config() if workdir and not given else None
    flags.define_config(recorded or 'quickstart')


def check(flags: Flags) -> Config:
    """The config, after all that can be said of the flags before anything runs.

    Raises:
      UserError: one of them is refused.
    """
    config = flags.config()
    if flags['picture']:
        _require_picture(flags)
    if not flags['describe']:
        flags.required('workdir')
    if flags['fork_from'] and '@' not in flags['fork_from']:
        raise UserError(f'--fork_from={flags["fork_from"]}: must be WORKDIR@STEP')
    return config


def main(flags: Flags) -> None:
    """Trains, or describes the run that would be trained."""
    config = check(flags)
    # Imported here, after the config is known to be good: jax takes seconds.
    connect_processes(flags)
    from lm.ending import ending_together

    with ending_together():
        _run(flags, config)


def _require_picture(flags: Flags) -> None:
    if not flags['describe']:
        raise UserError(f'--picture={flags["picture"]}: draws what --describe tells; give both')
    require_ending('picture', flags['picture'], ('.svg', '.png'))
    require_writable('picture', flags['picture'])


def _run(flags: Flags, config: Config) -> None:
    from lm import processes
    from lm.training import run
    from lm.training.profile import parse_steps

    if flags['describe']:
        described = run.describe(config, flags['picture'] or None)
        if processes.is_first():
            print(described)
        return
    run.train(
        config,
        flags.required('workdir'),
        strict=flags['strict'],
        restretch=flags['restretch'],
        fork_from=flags['fork_from'] or None,
        profile_steps=parse_steps(flags['profile_steps']),
    )
