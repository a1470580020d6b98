"""The flags by which the processes of one run find each other."""

from lm.flags import Flags

NAMES = ('coordinator', 'num_processes', 'process_id', 'distributed')
"""Flags that say that there are several, and which one this is."""


def define_processes(flags: Flags) -> None:
    """`--coordinator`, `--num_processes`, `--process_id`, or `--distributed`."""
    flags.define('coordinator', str | None, None, 'HOST:PORT of process 0, with several processes')
    flags.define('num_processes', int | None, None, 'how many there are')
    flags.define('process_id', int | None, None, 'which one this is, from 0')
    flags.define('distributed', bool, False, 'find the three out: Slurm, Open MPI, TPU pod, GKE')
    flags.define('connect_seconds', float, 120.0, 'to wait for the other processes')


def connect_processes(flags: Flags) -> None:
    """Connects this process to the others, where flags say that there are any.

    Raises:
      UserError: the flags contradict each other, or the others are not there.
    """
    from lm.processes import connect

    connect(
        flags['coordinator'],
        flags['num_processes'],
        flags['process_id'],
        detect=flags['distributed'],
        seconds=flags['connect_seconds'],
    )
