"""`lm.train`: from a config and a folder to a finished run."""

import hashlib
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm import processes
from lm.config import Config
from lm.data.cache import cache_root
from lm.data.mixture import Mixture, prepare_mixture, prepare_watched
from lm.data.prepare import Prepared
from lm.errors import UserError
from lm.evaluation.examples import require_measures
from lm.fields import require
from lm.objectives._labelled import example_codec
from lm.planning.budget import budget_steps, hours_steps, with_steps
from lm.planning.counts import count_parameters
from lm.resolution import from_json, resolve, to_json
from lm.storage import is_stored
from lm.training.banner import banner, fallbacks, mixture_words
from lm.training.found_labels import require_watched_labels, with_labels
from lm.training.given import require_given
from lm.training.kept_programs import keep_programs
from lm.training.origin import described
from lm.training.outside import require_packages
from lm.training.profile import Steps
from lm.training.program import Program, build_schedule, resolve_policy
from lm.training.resume import Start, plan_fork, plan_start
from lm.training.run_program import run_program
from lm.training.session import Session
from lm.training.timing import step_seconds
from lm.training.workdir import Workdir, differences


def train(
    config: Config,
    workdir: str | Path,
    *,
    strict: bool = False,
    restretch: bool = False,
    fork_from: str | None = None,
    profile_steps: Steps | None = None,
) -> dict[str, Any]:
    """Trains `config` in `workdir`, or goes on with the run that is there.

    Args:
      config: a resolved config, from `lm.load_config`.
      workdir: the run's folder, made if need be, or `gs://` or `s3://` and where it is there.
      strict: raise where something else would run than what was asked for.
      restretch: let a schedule that is tied to its end go on towards a later one.
      fork_from: `WORKDIR@STEP`: a new run begins with the state another one had there.
      profile_steps: the first and the last of the steps that are traced, into `profile/` of the
        folder; a table of the operations that took longest goes to stderr.

    Returns:
      The summary, as in summary.json.

    Raises:
      UserError: the config, the data, the workdir or the disk refuses, or the loss is not finite.
      SystemExit: a signal asked for the end; the state is saved. 128 + the signal's number.
    """
    folder = _opened(workdir, config)

    def plan() -> tuple[Start, tuple[Workdir, int] | None]:
        start = plan_start(folder, resolve(config), restretch)
        return start, None if fork_from is None else plan_fork(folder, start, fork_from)

    # Every process reads what is there before the first one changes it.
    start, source = processes.all_or_none(plan)
    if start.finished:
        processes.tell(f'lm: the run in {folder.name} is finished: nothing to do')
        _let_go(folder)
        return start.finished
    keep_programs(start.config.data)
    processes.from_first(lambda: require_packages(start.config))
    require_measures(start.config)
    if start.config.train.budget is None:
        build_schedule(start.config)  # refuses a bad one before the text is read
    if not start.resumes and fork_from is None:
        processes.all_or_none(lambda: require_given(start.config))
    _agree(start.config, folder)
    mixture = _mixture(start.config, start.asked_vocab_size)
    watched = _watched(start.config, mixture, start.asked_vocab_size)
    config = _told(start.config, mixture, watched)
    if start.resumes:
        _tell_budget(config, config.train.steps)
    else:
        config = _budgeted(config, mixture, may_time=True)
    program = run_program(config, mixture)
    processes.tell(_banner(program, mixture, watched))
    for words in fallbacks(program):
        if strict:
            raise UserError(f'--strict: {words}')
        processes.tell(f'note: {words}')
    with Session(folder, program, mixture, watched, start, strict, profile_steps) as session:
        session.begin(source)
        summary = session.run()
    _let_go(folder)
    return summary


def describe(config: Config, picture_file: str | Path | None = None) -> str:
    """What `train` would run: the banner, without training or a workdir.

    Args:
      config: a resolved config, from `lm.load_config`.
      picture_file: `.svg` or `.png`: where the state lies is drawn there; None: nowhere.

    Raises:
      UserError: the config, the data or the disk refuses.
    """
    config = resolve(config)
    require_given(config)
    mixture = _mixture(config, config.model.vocab_size)
    watched = _watched(config, mixture, config.model.vocab_size)
    config = _budgeted(_told(config, mixture, watched), mixture, may_time=False)
    program = run_program(config, mixture)
    if picture_file is not None and processes.is_first():
        # Imported here: a run draws nothing before its end.
        from lm.training.sharding_picture import picture

        picture(program, picture_file)
    return _banner(program, mixture, watched) + described(program, mixture)


def _banner(program: Program, mixture: Mixture, watched: Collection[str]) -> str:
    words = banner(program, count_parameters(program.functional))
    return words + mixture_words(mixture, watched)


def _opened(workdir: str | Path, config: Config) -> Workdir:
    """The run's folder; of one in a store the copy that all processes work on."""
    if not is_stored(workdir):
        return Workdir(workdir)
    digest = hashlib.sha256(str(workdir).rstrip('/').encode()).hexdigest()
    copy = cache_root(config.data) / 'workdirs' / digest[:32]
    folder = Workdir(workdir, copy=copy)

    def check() -> None:
        require(
            copy.is_dir(),
            f'data.cache_dir={cache_root(config.data)}: process {processes.index()} does not find '
            f'there the copy of {folder.name} that process 0 made; give a folder that all '
            'processes share',
        )

    processes.all_or_none(check)
    return folder


def _let_go(folder: Workdir) -> None:
    """Removes the copy of a folder whose store has all of it."""
    if folder.stored is not None:
        processes.from_first(lambda: shutil.rmtree(folder.path, ignore_errors=True))


def _agree(config: Config, folder: Workdir) -> None:
    """Makes the folder; refuses processes that were started with different words."""
    processes.from_first(folder.create)
    if processes.count() == 1:
        return

    def check() -> None:
        who = f'process {processes.index()}'
        if not folder.path.is_dir():
            raise UserError(
                f'workdir={folder.name}: {who} does not find the folder that process 0 made; give '
                'one that all processes share'
            )
        for path, (theirs, own) in differences(first, config).items():
            raise UserError(f'{path}={own!r}: in {who}, and {theirs!r} in process 0; give one')

    first = from_json(processes.from_first(lambda: to_json(config)))
    processes.all_or_none(check)


def _mixture(config: Config, asked_vocab_size: int | None) -> Mixture:
    """The text: made by process 0, then opened by the others."""
    made: list[Mixture] = []
    data, codec = config.data, example_codec(config)
    processes.from_first(lambda: made.append(prepare_mixture(data, asked_vocab_size, codec)))
    return processes.all_or_none(
        lambda: made[0] if made else prepare_mixture(data, asked_vocab_size, codec, make=False)
    )


def _watched(config: Config, mixture: Mixture, asked_vocab_size: int | None) -> dict[str, Prepared]:
    """The texts of `eval.sources`: made by process 0, then opened by the others."""

    def prepared(make: bool) -> dict[str, Prepared]:
        names = config.eval.sources
        codec = example_codec(config)
        return prepare_watched(config.data, names, mixture, asked_vocab_size, codec, make=make)

    if not config.eval.sources:
        return {}
    made: list[dict[str, Prepared]] = []
    processes.from_first(lambda: made.append(prepared(make=True)))
    return processes.all_or_none(lambda: made[0] if made else prepared(make=False))


def _told(config: Config, mixture: Mixture, watched: Mapping[str, Prepared]) -> Config:
    """`config` with what only the text or the machine can tell."""
    if config.model.vocab_size is None:
        size = mixture.tokenizer.vocabulary.size
        config = replace(config, model=replace(config.model, vocab_size=size))
    config = with_labels(config, mixture)
    require_watched_labels(config, watched)
    return resolve_policy(config)


def _budgeted(config: Config, mixture: Mixture, *, may_time: bool) -> Config:
    """`config` with the steps that its budget allows; hours are turned into steps by a clock."""
    steps = budget_steps(config)
    if steps is None and may_time:
        steps = hours_steps(config, step_seconds(config, mixture))
    _tell_budget(config, steps)
    return with_steps(config, steps)


def _tell_budget(config: Config, steps: int | None) -> None:
    budget = config.train.budget
    if budget is not None:
        value = getattr(config.train, budget)
        known = 'timed when the run begins' if steps is None else steps
        processes.tell(f'steps      {known}: train.{budget}={value}')
