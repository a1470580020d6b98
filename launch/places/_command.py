"""A launched command: what executes it, how its processes are connected, what it asks for."""

import os
import sys
from collections.abc import Sequence

from lm.errors import UserError

from .._processes import NAMES
from ..main import read_flags

PROGRAM = (sys.executable, '-m', __package__.partition('.')[0])
"""This `lm`, by the Python that runs it: the same one on every machine that shares its disk."""


def connected(
    command: tuple[str, ...], processes: int, connection: Sequence[str]
) -> tuple[str, ...]:
    """`command` with the flags by which its processes find each other; one alone needs none.

    Raises:
      UserError: it has such flags already, or its verb runs in one process only.
    """
    verb, *words = command
    own = [word for word in words if word.lstrip('-').partition('=')[0] in NAMES]
    if own:
        raise UserError(f'{verb}: {own[0]}: the launcher gives it; leave it out')
    if processes == 1:
        return command
    if verb != 'train':
        raise UserError(f'{verb}: runs in one process, and there would be {processes}; ask for one')
    return (*command, *connection)


def emulating(devices: int) -> tuple[str, ...]:
    """`env NAME=VALUE ...` before a command: so many emulated CPU devices for its process."""
    emulated = f'--xla_force_host_platform_device_count={devices}'
    flags = ' '.join(filter(None, [os.environ.get('XLA_FLAGS'), emulated]))  # the last one counts
    return ('env', 'JAX_PLATFORMS=cpu', f'XLA_FLAGS={flags}')


def require_devices(command: tuple[str, ...], devices: int) -> None:
    """Refuses a run whose mesh does not fit the number of devices that there will be.

    Raises:
      UserError: which axis, and how many devices there are.
    """
    verb, *words = command
    if verb != 'train':
        return
    # Imported here: jax comes with it.
    from lm.mesh.axes import axis_sizes

    _, flags = read_flags(verb, words)
    try:
        axis_sizes(flags.config().mesh, devices)
    except UserError as error:
        raise UserError(f'train: {error}') from error
