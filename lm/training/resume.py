"""What a second run in a workdir does: go on, extend, branch off, or refuse, and from where."""

from dataclasses import dataclass, field, replace
from typing import Any

from lm import registry
from lm.config import Config
from lm.errors import UserError
from lm.planning.budget import budget_steps, hours_steps, with_steps
from lm.training.workdir import Workdir, differences, is_fixed, read_jsonl


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
      config: what to run with.
      asked_vocab_size: `model.vocab_size` as the run's first command had it. A tokenizer trained
        for "as many as come out" is another one than one trained for that very number.
      resumes: whether a run has begun in the workdir before.
      finished: the summary of a run that has all the steps that are asked for, else None.
      newest: the latest checkpoint it may go on from; None is any.
      changes: what differs from before, by dotted path.
    """

    config: Config
    asked_vocab_size: int | None
    resumes: bool = False
    finished: dict[str, Any] | None = None
    newest: int | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def plan_start(workdir: Workdir, config: Config, restretch: bool) -> Start:
    """Compares `config` with the run in `workdir`, if there is one.

    Raises:
      UserError: a field that must agree differs, the budget shrank, or a schedule tied to its
        end would have to be stretched and `restretch` is not given.
    """
    before = workdir.read_config()
    if before is None:
        return Start(config, config.model.vocab_size)
    if workdir.conversion_file.exists():
        raise UserError(
            f'workdir={workdir.name}: holds a converted model, no run; give another workdir, with '
            f'checkpoint.init_from={workdir.name} to begin with its parameters'
        )
    config = as_before(config, before)
    fixed = [
        f'{path}={new!r} (there: {old!r})'
        for path, (old, new) in differences(before, config).items()
        if is_fixed(path)
    ]
    if fixed:
        raise UserError(
            f'workdir={workdir.name}: holds a run that differs in {", ".join(fixed)}; '
            'give its values, or another workdir'
        )
    config = with_steps(config, _steps(workdir, config, before))
    changes = differences(before, config)
    steps, planned = config.train.steps, before.train.steps
    if steps < planned:
        raise UserError(
            f'{config.train.length_words}: the run in {workdir.name} was planned for {planned}; '
            'a smaller budget needs another workdir'
        )
    # The summary of a shorter run is still there when its extension was killed at the beginning.
    summary = workdir.read_summary()
    finished = summary if summary is not None and _ended(summary, config, before) else None
    newest = None if steps == planned else _plateau(workdir, before, config, restretch)
    asked = _asked_vocab_size(workdir, before)
    return Start(config, asked, True, finished, newest, changes)


def _steps(workdir: Workdir, config: Config, before: Config) -> int | None:
    """The steps of the run's budget; those of hours, at the pace that its own record tells.

    Raises:
      UserError: fewer hours than before, or nothing was recorded yet.
    """
    hours, old_hours = config.train.hours, before.train.hours
    if hours is None:
        return budget_steps(config)
    if hours == old_hours:
        return before.train.steps
    if old_hours is not None and hours < old_hours:
        raise UserError(
            f'train.hours={hours}: the run in {workdir.name} was planned for {old_hours}; '
            'a smaller budget needs another workdir'
        )
    rows = read_jsonl(workdir.metrics_file)
    if not rows:
        raise UserError(
            f'train.hours={hours}: metrics.jsonl in {workdir.name} has no row yet, from which its '
            'pace is known; go on with the budget it has first'
        )
    steps = hours_steps(config, rows[-1]['seconds'] / rows[-1]['step'])
    # A run that was slower than planned still has steps to take.
    return steps if old_hours is None else max(steps, before.train.steps)


def _ended(summary: dict[str, Any], config: Config, before: Config) -> bool:
    """Whether the run of that summary has all that `config` asks for."""
    if summary.get('stopped_by') == 'hours':
        return config.train.hours is not None and config.train.hours == before.train.hours
    return summary.get('steps') == config.train.steps


def as_before(config: Config, before: Config) -> Config:
    """`config` with what it leaves open filled in as the earlier run had it."""
    if config.model.vocab_size is None:
        config = replace(config, model=replace(config.model, vocab_size=before.model.vocab_size))
    if config.model.num_labels is None:
        config = replace(config, model=replace(config.model, num_labels=before.model.num_labels))
    options, old = config.objective.options, before.objective.options
    if type(options) is type(old) and getattr(options, 'labels', None) == ():
        options = replace(options, labels=old.labels)
        config = replace(config, objective=replace(config.objective, options=options))
    if config.precision.policy == 'auto':
        policy = before.precision.policy
        config = replace(config, precision=replace(config.precision, policy=policy))
    return config


def _asked_vocab_size(workdir: Workdir, before: Config) -> int | None:
    """What the run's history says was left open, else what config.json says."""
    for row in workdir.read_history():
        if 'model.vocab_size' in row['changes']:
            asked: int | None = row['changes']['model.vocab_size'][0]
            return asked
    return before.model.vocab_size


def plateau_end(config: Config) -> int | None:
    """The step up to which the run does not depend on its length; None if it always does."""
    schedule = registry.lookup('schedules', config.optim.schedule, 'optim.schedule')
    return schedule.plateau_end(config.optim, config.train.steps)


def _plateau(workdir: Workdir, before: Config, config: Config, restretch: bool) -> int | None:
    """The newest checkpoint that a longer run may go on from."""
    end = plateau_end(before)
    if end is None and not restretch:
        raise UserError(
            f'{config.train.length_words}: the {before.optim.schedule} schedule of the run '
            f'in {workdir.name} ends at step {before.train.steps}; --restretch goes on with '
            'the longer schedule from where it stands, --fork_from branches off'
        )
    return None if restretch else end


def plan_fork(workdir: Workdir, start: Start, text: str) -> tuple[Workdir, int] | None:
    """The two parts of `WORKDIR@STEP`; None if that branch has begun and `start` goes on with it.

    Raises:
      UserError: it is not of that form, there is no run, or the workdir holds a run that did not
        begin so.
    """
    path, at, step = text.rpartition('@')
    if not at or not step.isdecimal():
        raise UserError(f'fork_from={text}: must be WORKDIR@STEP')
    source = Workdir(path, 'fork_from')
    if start.resumes:
        origins = [row['changes'].get('fork_from') for row in workdir.read_history()]
        if [None, fork_words(source, int(step))] not in origins:
            raise UserError(
                f'fork_from={text}: workdir={workdir.name} holds a run that did not branch off '
                'there; give another workdir'
            )
        return None
    if source.read_config() is None:
        raise UserError(f'fork_from={text}: there is no run in {path}')
    init_from = start.config.checkpoint.init_from
    if init_from:
        raise UserError(
            f'fork_from={text}: brings all parameters; leave out checkpoint.init_from={init_from}'
        )
    return source, int(step)


def fork_words(source: Workdir, step: int) -> str:
    """What history.jsonl says of a branch."""
    return f'{source.name}@{step}'
