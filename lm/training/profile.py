"""A trace of some steps, and a table of the operations that took their time."""

import csv
import glob
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jax

from lm.errors import UserError
from lm.fields import require
from lm.planning.devices import bandwidth, peak_flops
from lm.planning.operations import Operation, operations

Steps: TypeAlias = tuple[int, int]
"""The first step that is traced, and the last."""


@dataclass(frozen=True)
class Share:
    """What one operation took of the traced steps.

    Attributes:
      name, source: as of `Operation`.
      times: how often it ran a step.
      milliseconds: a step.
      share: of the time of all operations.
      gflops, gigabytes_s: what it computed and moved a second, 1e9 each.
      roofline: the time that the device's peaks need for it, over the time it took (Williams et al.
        2009); None where they are not known. Above 1 where it reads parts of arrays.
    """

    name: str
    source: str
    times: float
    milliseconds: float
    share: float
    gflops: float
    gigabytes_s: float
    roofline: float | None


def parse_steps(words: str) -> Steps | None:
    """`10:13` as (10, 13): both are traced. Empty: None.

    Raises:
      UserError: anything else.
    """
    if not words:
        return None
    first, colon, last = words.partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UserError(f'--profile_steps={words}: must be FIRST:LAST, steps from 1, as 10:13')
    return int(first), int(last)


class Profiler:
    """Traces steps `first` to `last` of a run into `folder`."""

    def __init__(self, folder: Path, steps: Steps):
        self.folder = folder
        self.first, self.last = steps
        self._running, self._traced = False, 0

    def require_within(self, first: int, last: int) -> None:
        """Raises UserError unless the steps are among those that the run takes now."""
        require(
            first <= self.first and self.last <= last,
            f'--profile_steps={self.first}:{self.last}: this run takes steps {first} to {last}; '
            'give some of these',
        )

    def before(self, step: int, state: Any) -> None:
        """To be called before each step; what came before is waited for."""
        if step == self.first:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self.folder))
            self._running = True

    def after(self, step: int, state: Any) -> None:
        """To be called behind each step."""
        self._traced += self._running
        if self._running and step >= self.last:
            jax.block_until_ready(state)
            jax.profiler.stop_trace()
            self._running = False

    def close(self) -> int:
        """Ends a trace that the run's end cut short; how many steps were traced."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
        return self._traced


def shares(
    folder: Path, compiled: jax.stages.Compiled, steps: int, device: jax.Device, dtype: str
) -> list[Share]:
    """The step's operations in a trace, the longest first.

    Args:
      folder: of the trace.
      compiled: the step.
      steps: that were traced.
      device: the one whose operations are told.
      dtype: of the matrix products, for the peak.
    """
    text = compiled.as_text() or ''
    known = operations(text)
    module = text.split(None, 2)[1].rstrip(',')
    nanoseconds: dict[str, float] = defaultdict(float)
    times: dict[str, int] = defaultdict(int)
    for name, duration in _events(folder, module, device):
        nanoseconds[name] += duration
        times[name] += 1
    whole = sum(nanoseconds.values()) or 1.0
    peak, rate = peak_flops(device.device_kind, dtype), bandwidth(device.device_kind)
    found = []
    for name, spent in sorted(nanoseconds.items(), key=lambda item: -item[1]):
        operation = known.get(name, Operation(name, '', 0.0, 0.0))
        seconds = spent / times[name] / 1e9
        needed = None
        if peak and rate:
            needed = max(operation.flops / peak, operation.bytes / rate) / seconds
        found.append(
            Share(
                name,
                operation.source,
                times[name] / steps,
                spent / steps / 1e6,
                spent / whole,
                operation.flops / seconds / 1e9,
                operation.bytes / seconds / 1e9,
                needed,
            )
        )
    return found


def _events(folder: Path, module: str, device: jax.Device) -> Iterable[tuple[str, float]]:
    """Name and nanoseconds of each operation of a program in the newest trace of a folder."""
    newest = max(glob.glob(f'{folder}/plugins/profile/*/*.xplane.pb'))
    data = jax.profiler.ProfileData.from_file(newest)
    for plane in data.planes:
        if plane.name.startswith('/device:') and not plane.name.endswith(f':{device.id}'):
            continue
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                here = stats.get('device_ordinal', device.id) == device.id
                if stats.get('hlo_module', '').split('(')[0] == module and here:
                    yield str(stats['hlo_op']), event.duration_ns


def table(found: list[Share], most: int = 15) -> str:
    """The longest ones, for people."""
    lines = ['   ms/step  share  times   GFLOP/s     GB/s  roofline  operation']
    for share in found[:most]:
        roofline = '-' if share.roofline is None else f'{share.roofline:.0%}'
        lines.append(
            f'{share.milliseconds:10.3f} {share.share:6.1%} {share.times:6.0f} '
            f'{share.gflops:9.0f} {share.gigabytes_s:8.1f} {roofline:>9}  {share.name} '
            f'({share.source[-60:]})'
        )
    return '\n'.join(lines)


def write(found: list[Share], path: Path) -> None:
    """All of them, as CSV."""
    with path.open('w', newline='') as file:
        rows = csv.DictWriter(file, [*Share.__dataclass_fields__])
        rows.writeheader()
        rows.writerows(asdict(share) for share in found)
