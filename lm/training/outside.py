"""The loggers of a run: told of metrics, evaluations and the summary, and closed in any case."""

import contextlib
import json
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from lm import processes, registry
from lm.config import Config
from lm.errors import UserError
from lm.fields import flatten
from lm.training.workdir import Workdir, write_json


def require_packages(config: Config) -> None:
    """Refuses a logger whose package is not installed, before anything is done.

    Raises:
      UserError: names the extra that brings it.
    """
    for name in config.train.loggers:
        for package in registry.lookup('loggers', name, 'train.loggers').PACKAGES:
            if find_spec(package) is None:
                raise UserError(
                    f'train.loggers={name}: needs the package {package}; '
                    f"pip install 'lm-lab[{name}]'"
                )


class Loggers:
    """The members of `train.loggers`, as a context; the first process has them, the others none.

    A logger that fails when it is started ends the run; one that fails later is told of and left
    out: what it is for is not worth the training.
    """

    def __init__(self, workdir: Workdir, config: Config):
        self._workdir, self._config = workdir, config
        self._open: dict[str, Any] = {}
        self._summary: dict[str, Any] | None = None

    def __enter__(self) -> 'Loggers':
        try:
            processes.from_first(self._begin)
        except BaseException:
            self._close()
            raise
        return self

    def __call__(self, row: dict[str, Any]) -> None:
        """Tells the numbers of a row of metrics or of an evaluation."""
        numbers = {
            name: value
            for name, value in row.items()
            if name != 'step' and isinstance(value, int | float)
        }
        for name, logger in [*self._open.items()]:
            try:
                logger.log(row['step'], numbers)
            except Exception as error:
                del self._open[name]
                processes.tell(
                    f'\nlm: train.loggers={name}: failed at step {row["step"]} and is left out '
                    f'from here on ({_line(error)})'
                )
                with contextlib.suppress(Exception):
                    logger.close(None)

    def end(self, summary: dict[str, Any]) -> None:
        """The run came to its end."""
        self._summary = summary

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _begin(self) -> None:
        file, config = self._workdir.loggers_file, flatten(self._config)
        run_ids: dict[str, str] = _read(file)
        for name in self._config.train.loggers:
            member = registry.lookup('loggers', name, 'train.loggers')
            workdir = self._workdir.path.absolute()
            try:
                self._open[name] = member.start(
                    self._workdir.label, config, workdir, run_ids.get(name)
                )
            except Exception as error:
                raise UserError(
                    f'train.loggers={name}: cannot be started ({_line(error)})'
                ) from error
            run_ids[name] = self._open[name].run_id
        if self._open:
            write_json(file, run_ids)

    def _close(self) -> None:
        for name, logger in self._open.items():
            try:
                logger.close(self._summary)
            except Exception as error:
                processes.tell(f'lm: train.loggers={name}: could not be closed ({_line(error)})')
        self._open = {}


def _read(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    try:
        run_ids: dict[str, str] = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(f'{file}: is not JSON ({error}); mend or remove it') from error
    return run_ids


def _line(error: BaseException) -> str:
    """The first line of what went wrong."""
    return next(iter(str(error).splitlines()), '') or type(error).__name__
