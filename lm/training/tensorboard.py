"""TensorBoard events, written row by row by the first process.

tensorboardX's own writer works in a thread, which loses rows on kill -9 and prints tracebacks when
the disk is full; its messages and checksum are used, and an ordinary file.
"""

import os
import struct
import time
from pathlib import Path
from typing import Any

from lm import processes
from lm.errors import UserError
from lm.training.workdir import Workdir


class TensorBoard:
    """Scalars of metrics and evaluations; every row is with the system once the call returns."""

    def __init__(self, workdir: Workdir, first_step: int):
        """
        Args:
          workdir: of the run.
          first_step: what an earlier process told of later steps is hidden: they are taken again.

        Raises:
          UserError: the disk refuses, now or in any call.
        """
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.record_writer import masked_crc32c

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._checksum = masked_crc32c
        name = f'events.out.tfevents.{time.time():.6f}.{os.getpid()}'
        self._path = workdir.tensorboard / name if processes.is_first() else Path(os.devnull)
        try:
            workdir.tensorboard.mkdir(exist_ok=True)
            self._file = self._path.open('ab', buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error
        self._write(self._event(wall_time=time.time(), file_version='brain.Event:2'))
        if first_step:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(self._event(step=first_step + 1, session_log=start))

    def __call__(self, row: dict[str, Any]) -> None:
        """Writes the numbers of a row of metrics.jsonl or eval.jsonl."""
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in row.items()
            if name != 'step' and isinstance(value, int | float)
        ]
        summary = self._summary(value=values)
        self._write(self._event(wall_time=time.time(), step=row['step'], summary=summary))

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        """One record: length, its checksum, the event, its checksum."""
        body = event.SerializeToString()
        length = struct.pack('<Q', len(body))
        sums = [struct.pack('<I', self._checksum(part)) for part in (length, body)]
        try:
            self._file.write(b''.join([length, sums[0], body, sums[1]]))
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f'{self._path}: cannot be written ({error.strerror})')
