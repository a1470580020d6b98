"""`lm.train`: from a config and a folder to a finished run."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm.config import Config, resolve
from lm.data.prepare import Prepared, prepare
from lm.errors import UserError
from lm.planning.counts import count_parameters
from lm.training.banner import banner, fallbacks
from lm.training.program import Program, build_program, build_schedule, resolve_policy
from lm.training.resume import plan_fork, plan_start
from lm.training.session import Session
from lm.training.workdir import Workdir


def train(
    config: Config,
    workdir: str | Path,
    *,
    strict: bool = False,
    restretch: bool = False,
    fork_from: str | None = None,
) -> dict[str, Any]:
    """Trains `config` in `workdir`, or goes on with the run that is there.

    Args:
      config: a resolved config, from `lm.load_config`.
      workdir: the run's folder; made if need be.
      strict: raise where something else would run than what was asked for.
      restretch: let a schedule that is tied to its end go on towards a later one.
      fork_from: `WORKDIR@STEP`: a new run begins with the state another one had there.

    Returns:
      The summary, as in summary.json.

    Raises:
      UserError: the config, the data, the workdir or the disk refuses, or the loss is not finite.
      SystemExit: a signal asked for the end; the state is saved. 128 + the signal's number.
    """
    folder = Workdir(workdir)
    start = plan_start(folder, resolve(config), restretch)
    source = None if fork_from is None else plan_fork(folder, start, fork_from)
    if start.finished:
        print(f'lm: the run in {folder.path} is finished: nothing to do', file=sys.stderr)
        return start.finished
    build_schedule(start.config)  # refuses a bad one before the text is read
    folder.create()
    program, prepared = _build(start.config, start.asked_vocab_size)
    print(banner(program, count_parameters(program.functional)), file=sys.stderr)
    for words in fallbacks(program):
        if strict:
            raise UserError(f'--strict: {words}')
        print(f'note: {words}', file=sys.stderr)
    with Session(folder, program, prepared, start, strict) as session:
        session.begin(source)
        return session.run()


def describe(config: Config) -> str:
    """What `train` would run: the banner, without training or a workdir."""
    program, _ = _build(resolve(config), config.model.vocab_size)
    return banner(program, count_parameters(program.functional))


def _build(config: Config, asked_vocab_size: int | None) -> tuple[Program, Prepared]:
    """The prepared text, and the program with what only the text or the machine can tell."""
    prepared = prepare(config.data, asked_vocab_size)
    vocabulary = prepared.tokenizer.vocabulary
    if config.model.vocab_size is None:
        config = replace(config, model=replace(config.model, vocab_size=vocabulary.size))
    return build_program(resolve_policy(config), vocabulary), prepared
