"""The processes of a run: how they are connected, and how they agree.

Each drives some of the devices, and all run the same programs in the same order. Whatever only one
of them can know (what process 0 read or wrote, that a signal came) is told through JAX's key-value
store, which does not wait for a device. One process alone is connected to nothing.
"""

import itertools
import json
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from lm.errors import UserError
from lm.rendezvous import meet

T = TypeVar('T')

_FOREVER_MS = 7 * 24 * 3600 * 1000
"""A process that ends without a word takes the others along by itself: JAX's heartbeats."""
_SHUTDOWN_SECONDS = 30
_names = itertools.count()


def connect(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    detect: bool = False,
    seconds: float = 120,
) -> None:
    """Connects this process to the others of its run; to be called before JAX sees a device.

    Args:
      coordinator: HOST:PORT at which process 0 can be reached by all.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      detect: take all of it from the environment: Slurm, Open MPI, a TPU pod, GKE.
      seconds: to wait for the others.

    With none of the arguments there is one process, and nothing is connected.

    Raises:
      UserError: only some are given, they contradict each other, there is no cluster to be
        detected, or a process does not come in time.
    """
    given = {
        '--coordinator': coordinator,
        '--num_processes': num_processes,
        '--process_id': process_id,
    }
    set_flags = [name for name, value in given.items() if value is not None]
    if detect:
        if set_flags:
            raise UserError(f'{set_flags[0]}: --distributed finds it out; give one of the two')
        _initialize({}, '--distributed', seconds)
        return
    if not set_flags:
        return
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise UserError(
            f'{missing[0]}: missing beside {set_flags[0]}; give all three, or --distributed'
        )
    assert coordinator is not None and num_processes is not None and process_id is not None
    if num_processes < 1:
        raise UserError(f'--num_processes={num_processes}: must be at least 1')
    if not 0 <= process_id < num_processes:
        raise UserError(f'--process_id={process_id}: must be in [0, {num_processes})')
    meet(coordinator, num_processes, process_id, seconds)
    arguments = {
        'coordinator_address': coordinator,
        'num_processes': num_processes,
        'process_id': process_id,
        'cluster_detection_method': 'deactivate',
    }
    _initialize(arguments, f'--coordinator={coordinator}', seconds)


def _initialize(arguments: dict[str, Any], words: str, seconds: float) -> None:
    import jax

    # JAX's own notice of SIGTERM would swallow the signal before a run handles it.
    jax.config.update('jax_enable_preemption_service', False)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=max(1, round(seconds)),
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        if not arguments and isinstance(error, ValueError):
            raise UserError(
                f'{words}: no Slurm, Open MPI, TPU pod or GKE job was found; give --coordinator, '
                '--num_processes and --process_id'
            ) from error
        reason = str(error).partition('\n')[0]
        raise UserError(f'{words}: the processes could not be connected ({reason})') from error


def disconnect() -> None:
    """Leaves the others, which wait for each other at their ends."""
    import jax

    jax.distributed.shutdown()


def _connection() -> Any:
    """JAX's state of the connection; no device is touched."""
    from jax._src import distributed

    return distributed.global_state


def index() -> int:
    """Which process this is."""
    number: int = _connection().process_id
    return number


def count() -> int:
    """How many there are."""
    number: int = _connection().num_processes
    return number


def is_first() -> bool:
    """Whether this is the process that writes the files and speaks."""
    return index() == 0


def tell(words: str) -> None:
    """A line on stderr, from process 0 for all."""
    if is_first():
        print(words, file=sys.stderr, flush=True)


def from_first(make: Callable[[], T]) -> T:
    """What process 0 makes, in every process; the others wait for it.

    Args:
      make: gives something that JSON keeps as it is; called in process 0 only.

    Raises:
      UserError: `make` raised it: the same in every process.
    """
    if count() == 1:
        return make()
    client, name = _connection().client, f'lm/{next(_names)}'
    if is_first():
        try:
            made = make()
        except UserError as error:
            client.key_value_set(name, json.dumps({'error': str(error)}))
            raise
        client.key_value_set(name, json.dumps({'made': made}))
        return made
    answer = json.loads(client.blocking_key_value_get(name, _FOREVER_MS))
    if 'error' in answer:
        raise UserError(answer['error'])
    told: T = answer['made']
    return told


def all_or_none(act: Callable[[], T]) -> T:
    """What `act` gives in this process, if it gives something in every process.

    Raises:
      UserError: `act` raised it in some process: the first one's words in every process.
    """
    if count() == 1:
        return act()
    made: list[T] = []
    error = None
    try:
        made.append(act())
    except UserError as raised:
        error = str(raised)
    errors = list(filter(None, gathered(error)))
    if errors:
        raise UserError(errors[0])
    return made[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, in every process; each is something that JSON keeps as it is."""
    if count() == 1:
        return [value]
    client, name = _connection().client, f'lm/{next(_names)}'
    client.key_value_set(f'{name}/{index()}', json.dumps(value))

    def read(i: int) -> T:
        told: T = json.loads(client.blocking_key_value_get(f'{name}/{i}', _FOREVER_MS))
        return told

    return from_first(lambda: [read(i) for i in range(count())])


def wait_for_all() -> None:
    """Returns once every process has come here."""
    gathered(None)


class Notice:
    """One message that any process may give to all; the first one counts."""

    def __init__(self) -> None:
        # Imported by the thread that makes it: one that only reads was once handed, by an import
        # beside the main thread's, an error that could not be caught.
        from jax.errors import JaxRuntimeError

        self._name, self._refusal = f'lm/{next(_names)}', JaxRuntimeError

    def give(self, value: Any) -> None:
        """Gives it, unless one was given before."""
        try:
            _connection().client.key_value_set(self._name, json.dumps(value))
        except self._refusal as error:
            if 'ALREADY_EXISTS' not in str(error):
                raise

    def read(self) -> Any:
        """What was given, or None; asks the coordinator: a fraction of a millisecond."""
        try:
            return json.loads(_connection().client.key_value_try_get(self._name))
        except self._refusal as error:
            if 'NOT_FOUND' not in str(error):
                raise
            return None
