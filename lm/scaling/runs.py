"""The runs that a scaling law is fitted to, and their reader. Everything is float64.

FLOPs never pass through an integer array: 6 N D of a large run overflows 64 bits.
"""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lm.errors import UserError, did_you_mean

Points = Float64[np.ndarray, ' points']

NUMBERS = ('params', 'tokens', 'loss', 'flops', 'budget', 'unique_tokens')
"""Columns of positive numbers; `run` is the one of names."""
NEEDED = ('params', 'tokens', 'loss')


@dataclass(frozen=True)
class Runs:
    """Points of training runs, one entry each; a learning curve has several of one `run`.

    Args:
      params: N, parameters, by the convention of whoever made them.
      tokens: D, tokens seen up to this point.
      losses: nats a token.
      flops: C, where something other than 6 N D was counted.
      budget: the C that the point of an iso-FLOP grid was meant to have.
      run: which run a point belongs to; runs are what a bootstrap draws.
      unique_tokens: tokens of the data set, fewer than `tokens` where text was repeated.
      failed: how many runs beside these have no loss.
    """

    params: Points
    tokens: Points
    losses: Points
    flops: Points | None = None
    budget: Points | None = None
    run: tuple[str, ...] | None = None
    unique_tokens: Points | None = None
    failed: int = 0

    def __post_init__(self) -> None:
        count = len(self.params)
        if not count:
            raise UserError('runs: no rows; give at least one')
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or field.name == 'failed':
                continue
            if len(value) != count:
                raise UserError(f'{field.name}: {len(value)} values for {count} params')
            if field.name == 'run':
                continue
            bad = np.flatnonzero(~(np.isfinite(value) & (value > 0)))
            if bad.size:
                raise UserError(
                    f'{field.name}[{bad[0]}]={value[bad[0]]}: must be positive and finite'
                )

    def __len__(self) -> int:
        return len(self.params)

    @property
    def compute(self) -> Points:
        """C of each point: `flops`, or 6 N D where none were counted."""
        return 6.0 * self.params * self.tokens if self.flops is None else self.flops

    def where(self, keep: Bool[np.ndarray, ' points'] | Int64[np.ndarray, ' kept']) -> 'Runs':
        """The points of a mask, or of indices (twice where drawn twice)."""
        index = np.arange(len(self))[keep]
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int):
                chosen[field.name] = value
            elif isinstance(value, tuple):
                chosen[field.name] = tuple(value[i] for i in index)
            else:
                chosen[field.name] = None if value is None else value[index]
        return Runs(**chosen)

    def owners(self) -> Int64[np.ndarray, ' points']:
        """The number of the run that each point belongs to; a point is its own without names."""
        if self.run is None:
            return np.arange(len(self))
        return np.unique(np.array(self.run), return_inverse=True)[1].astype(np.int64)


def read_runs(path: str | Path) -> Runs:
    """Reads `.csv` or `.jsonl`: columns `params, tokens, loss`, and those of `Runs` if there.

    Lines that begin with `#` are comments, other columns are ignored. A row whose column `error` is
    not empty is a run that failed, as `lm sweep` writes it: it is counted and left out.

    Args:
      path: of the file.

    Raises:
      UserError: the file, its header or a value is wrong; names the line and the column.
    """
    path = Path(path)
    readers = {'.csv': _csv_rows, '.jsonl': _jsonl_rows}
    if path.suffix not in readers:
        raise UserError(f'{path}: a file of runs ends in .csv or .jsonl')
    try:
        text = path.read_text(encoding='utf-8-sig')
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'not UTF-8 text'
        raise UserError(f'{path}: {reason}; give a .csv or .jsonl file of runs') from None
    columns: dict[str, list[Any]] | None = None
    failed = 0
    seen: dict[tuple[Any, ...], int] = {}
    for line, row in readers[path.suffix](path, text):
        if row.get('error') not in (None, ''):
            failed += 1
            continue
        if columns is None:
            columns = {name: [] for name in _known(path, line, row)}
        values = {name: _value(path, line, name, row.get(name)) for name in columns}
        _refuse_duplicate(path, line, values, seen)
        for name, value in values.items():
            columns[name].append(value)
    if columns is None:
        rows = f'{failed} rows, all of runs that failed' if failed else 'no rows'
        raise UserError(f'{path}: {rows}; it needs the columns {", ".join(NEEDED)}')
    arrays = {name: np.array(columns[name]) for name in NUMBERS if name in columns}
    names = tuple(columns['run']) if 'run' in columns else None
    return Runs(losses=arrays.pop('loss'), run=names, failed=failed, **arrays)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split('\n'), 1):
        if line.strip() and not line.lstrip().startswith('#'):
            yield number, line


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    header: list[str] | None = None
    for line, content in _lines(text):
        cells = [cell.strip() for cell in next(csv.reader([content]))]
        if header is None:
            header = cells
            twice = [name for name in (*NUMBERS, 'run') if header.count(name) > 1]
            if twice:
                raise UserError(f'{path} row {line}: two columns {twice[0]}; keep one')
            _known(path, line, dict.fromkeys(header))
            continue
        if len(cells) != len(header):
            raise UserError(
                f'{path} row {line}: {len(cells)} values for {len(header)} columns; '
                'give each column one'
            )
        yield line, dict(zip(header, cells, strict=True))


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in _lines(text):
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UserError(f'{path} row {line}: {content[:40]}: give one JSON object a line')
        yield line, row


def _known(path: Path, line: int, row: dict[str, Any]) -> list[str]:
    """The columns of the row that mean something here."""
    for name in NEEDED:
        if name not in row:
            raise UserError(
                f'{path} row {line}: no column {name} among {", ".join(row)}; '
                f'the columns needed are {", ".join(NEEDED)}{_meant(name, row)}'
            )
    return [name for name in (*NUMBERS, 'run') if name in row]


def _meant(name: str, row: dict[str, Any]) -> str:
    close = did_you_mean(name, list(row))
    return close.replace('did you mean', 'is it') if 'did you mean' in close else ''


def _value(path: Path, line: int, name: str, given: Any) -> Any:
    where = f'{path} row {line}, column {name}'
    if given is None or given == '':
        raise UserError(f'{where}: no value; give one, or leave out the row')
    if name == 'run':
        return str(given)
    try:
        if isinstance(given, bool):
            raise ValueError
        number = float(given)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError):
        raise UserError(f'{where}: {given!r} is no number; give one such as 1.5e9') from None
    if not (math.isfinite(number) and number > 0):
        raise UserError(
            f'{where}: {str(given)[:40]} must be positive and finite; mend it or leave out the row'
        )
    return number


def _refuse_duplicate(
    path: Path, line: int, values: dict[str, Any], seen: dict[tuple[Any, ...], int]
) -> None:
    """The same run at the same point twice, or all the same without names.

    Two losses at one N and D without names are two seeds.
    """
    key = tuple(values.get(name) for name in ('run', 'params', 'tokens', 'budget'))
    key += () if 'run' in values else (values['loss'], values.get('flops'))
    if key in seen:
        what = 'run' if 'run' in values else 'params'
        raise UserError(
            f'{path} row {line}, column {what}: {values[what]} is row {seen[key]} again, with the '
            'same tokens; leave out one'
        )
    seen[key] = line
