"""The state that a run begins with: its own last one, another run's, or a fresh one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lm import processes
from lm.data.mixture import Mixture
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.training.checkpoint import Checkpoints
from lm.training.given import Given, open_given
from lm.training.matched import Matched, matched
from lm.training.program import Program
from lm.training.resume import Start, fork_words
from lm.training.saved import Damaged, SavedStates
from lm.training.step import State
from lm.training.workdir import Workdir


@dataclass(frozen=True)
class Origin:
    """A state and how it came about.

    Attributes:
      state: to begin with.
      kept: what the steps up to it have counted, as `record` keeps it; None where there are none.
      changes: for history.jsonl: what the run took from elsewhere, (before, after) by name.
      parameters: for history.jsonl too: of which some came from elsewhere, as `Matched.lists`.
    """

    state: State
    kept: dict[str, Any] | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    parameters: dict[str, list[str]] = field(default_factory=dict)


def record(
    counts: dict[str, Any], noise_scale: dict[str, float] | None, mixture: Mixture
) -> dict[str, Any]:
    """What a checkpoint keeps besides the state."""
    measured = {} if noise_scale is None else {'noise_scale': noise_scale}
    return {'counts': counts, 'text': mixture.fingerprint, **measured}


def restored(
    folder: Workdir,
    checkpoints: Checkpoints,
    program: Program,
    mixture: Mixture,
    start: Start,
    strict: bool,
) -> Origin | None:
    """What an earlier run in the workdir left, or None where it had not saved yet.

    Raises:
      UserError: every checkpoint is damaged, the text is another one, or a longer run cannot go on
        from any checkpoint that is there.
    """
    steps = checkpoints.steps
    found = checkpoints.restore(program.abstract_state, strict, start.newest)
    if found is None and steps:
        raise UserError(
            f'workdir={folder.name}: no checkpoint up to step {start.newest}, where the decay '
            'began, is there: a longer run cannot go on from it; --fork_from one that is '
            f'({", ".join(map(str, steps))}), or --restretch'
        )
    if found is None:
        return None
    state, kept = found
    if kept['text'] != mixture.fingerprint:
        raise UserError(
            f'{program.config.data.words}: its text or tokens are not those that the '
            f'run in {folder.name} read up to step {int(state.step)}; give it that text again, or '
            'another workdir'
        )
    return Origin(state, kept)


def forked(program: Program, mixture: Mixture, source: Workdir, step: int) -> Origin:
    """The state of another run at a step.

    Raises:
      UserError: it is not there, damaged, not of this run's shape, or past its end.
    """
    words = f'fork_from={fork_words(source, step)}'
    checkpoints = SavedStates(source.checkpoints, source.stored)
    if step not in checkpoints.steps:
        steps = ', '.join(map(str, checkpoints.steps))
        raise UserError(f'{words}: no such checkpoint; there are {steps or "none"}')
    if step >= program.config.train.steps:
        raise UserError(
            f'{words}: leaves no step to take; make train.steps={program.config.train.steps} larger'
        )
    if source.tokenizer_file.exists():
        _compare_tokenizers(words, source.tokenizer_file, mixture)
    _compare_labels(words, source, program)
    try:
        state, kept = checkpoints.read(step, program.abstract_state)
    except Damaged as error:
        raise UserError(f'{words}: is damaged ({error})') from error
    if kept['text'] != mixture.fingerprint:
        # Other text is counted from here on: it is not what the earlier steps read.
        kept = {name: value for name, value in kept.items() if name != 'counts'}
    return Origin(state, kept, {'fork_from': (None, fork_words(source, step))})


def fresh(program: Program, mixture: Mixture) -> Origin:
    """The initial state, with the parameters of `checkpoint.init_from` where that is set.

    The optimizer's state is new and the step 0, so the data's order begins anew.

    Raises:
      UserError: there are no such parameters, or they do not fit.
    """
    state = program.init_state()
    init_from = program.config.checkpoint.init_from
    if not init_from:
        return Origin(state)
    given = open_given(init_from)
    found = _fitting(given, program, mixture)
    shapes = program.abstract_state.params
    wanted = {path: shapes[path] for path in found.loaded}
    place, loaded = given.read(program.config.model, wanted)
    params = {path: loaded[path].astype(x.dtype) for path, x in wanted.items()}
    processes.tell('\n'.join([f'begins     with parameters of {place}', *found.told()]))
    state = state._replace(params={**state.params, **params})
    return Origin(state, None, {'init_from': (None, place)}, found.lists())


def described(program: Program, mixture: Mixture) -> str:
    """What `fresh` would begin with, in lines for the banner; '' for the initial state alone.

    Raises:
      UserError: as `fresh`, but for arrays that are damaged.
    """
    init_from = program.config.checkpoint.init_from
    if not init_from:
        return ''
    found = _fitting(open_given(init_from), program, mixture)
    lines = [f'begins     with parameters of {init_from}', *found.told()]
    return ''.join(f'\n{line}' for line in lines)


def _fitting(given: Given, program: Program, mixture: Mixture) -> Matched:
    """Which parameters are given, of a model that reads the run's tokens."""
    given.require(program.config)
    if given.tokenizer is None:
        processes.tell(
            f'note: {given.words}: holds no tokenizer, so it is not known whether it had '
            f'data.tokenizer={program.config.data.tokenizer}'
        )
    else:
        _compare_tokenizers(given.words, given.tokenizer, mixture)
    labels = getattr(program.config.objective.options, 'labels', ())
    return matched(given, program.functional, program.abstract_state.params, labels)


def _compare_labels(words: str, source: Workdir, program: Program) -> None:
    """Refuses a head for labels whose logits mean others."""
    before = source.read_config()
    if before is None or not program.config.model.predicts_labels:
        return
    own, theirs = (
        tuple(getattr(config.objective.options, 'labels', ()))
        for config in (program.config, before)
    )
    if own != theirs:
        raise UserError(
            f'{words}: tells {", ".join(theirs) or "no labels"} apart, and this run '
            f'{", ".join(own)}; set objective.options.labels={",".join(theirs)}'
        )


def _compare_tokenizers(words: str, path: Path, mixture: Mixture) -> None:
    """Refuses parameters whose token ids mean other pieces: nothing else would tell."""
    if load_tokenizer(path).sha256 != mixture.tokenizer.sha256:
        raise UserError(f'{words}: was trained with another tokenizer; set data.tokenizer={path}')
