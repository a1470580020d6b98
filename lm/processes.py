"""The processes of a run: how they are connected, and how they agree.

Each drives some of the devices, and all run the same programs in the same order. Whatever only one
of them can know (what process 0 read or wrote, that a signal came) is told through JAX's key-value
store, which does not wait for a device. One process alone is connected to nothing.
"""

import itertools
import json
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lm.errors import UserError
from lm.line import Line
from lm.rendezvous import meet, split_address

T = TypeVar('T')

_FOREVER_MS = 7 * 24 * 3600 * 1000
"""`lm.ending` ends a process whose answer from another one will never come."""
SILENT_SECONDS = 20
"""Without a heartbeat, after which a process counts as dead."""
_names = itertools.count()
_line: Line | None = None
_first_host = ''
"""Where process 0 is, kept because nothing can be asked once that has died."""


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
        _initialize(*_detected(seconds), seconds)
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
    words = f'--coordinator={coordinator}'
    _initialize(words, coordinator, num_processes, process_id, None, seconds)


def whole(x: Any) -> Any:
    """An array as one of NumPy, all of it at each process, wherever its parts are."""
    import numpy as np

    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def _detected(seconds: float) -> tuple[str, str, int, int, Sequence[int] | None]:
    """What the environment says of the processes, after the words for it.

    Raises:
      UserError: it says nothing.
    """
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, max(1, round(seconds))
    )
    coordinator, num_processes, process_id, device_ids = found
    if coordinator is None or num_processes is None or process_id is None:
        raise UserError(
            '--distributed: no Slurm, Open MPI, TPU pod or GKE job was found; give --coordinator, '
            '--num_processes and --process_id'
        )
    words = f'--distributed: coordinator {coordinator}'
    return words, coordinator, num_processes, process_id, device_ids


def _initialize(
    words: str,
    coordinator: str,
    num_processes: int,
    process_id: int,
    device_ids: Sequence[int] | None,
    seconds: float,
) -> None:
    """Waits for the others and connects to them; `words` begin what is said where that fails."""
    host, port = split_address(words, coordinator)
    meet(words, (host, port), num_processes, process_id, seconds)
    import jax

    # JAX's own notice of SIGTERM would swallow the signal before a run handles it.
    jax.config.update('jax_enable_preemption_service', False)
    # A dead process is told in one line by `lm.ending`: JAX would end the others with a native
    # stack trace. Recoverable means that it leaves them alone, the line that they keep theirs.
    jax.config.update('jax_enable_recoverability', True)
    global _line, _first_host
    if process_id:
        _line = Line(host, port)
    try:
        jax.distributed.initialize(
            coordinator if _line is None else _line.address,
            num_processes,
            process_id,
            device_ids,
            cluster_detection_method='deactivate',
            initialization_timeout=max(1, round(seconds)),
            heartbeat_timeout_seconds=SILENT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'{words}: the processes could not be connected ({reason})') from error
    client = _connection().client
    client.key_value_set(f'lm/host/{process_id}/name', socket.gethostname())
    _first_host = client.blocking_key_value_get('lm/host/0/name', max(1, round(seconds)) * 1000)


def alive() -> set[int]:
    """The processes that have not left and whose hearts beat, asked of all that do.

    Every process asks again and again: who asks waits for the others to ask too.
    """
    return set(_connection().client.get_live_nodes(list(range(count()))))


def lost_first() -> bool:
    """Whether process 0 went away before this one left."""
    return _line is not None and _line.broken.is_set()


def name_of(number: int) -> str:
    """`process 1 (host NAME)`."""
    if number == 0:
        return f'process 0 (host {_first_host})'
    [(_, host)] = _connection().client.key_value_dir_get(f'lm/host/{number}/')
    return f'process {number} (host {host})'


def say_goodbye() -> None:
    """Lets the others know that this process leaves of its own will."""
    _connection().client.key_value_set(f'lm/left/{index()}/goodbye', '')


def has_left(number: int) -> bool:
    """Whether a process said goodbye."""
    return bool(_connection().client.key_value_dir_get(f'lm/left/{number}/'))


def disconnect() -> None:
    """Leaves the others; process 0, which they talk through, is to leave last."""
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
