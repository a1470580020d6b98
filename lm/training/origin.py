"""The state that a run begins with: its own last one, another run's, or a fresh one."""

from dataclasses import dataclass, field
from typing import Any

import jax

from lm.data.mixture import Mixture
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.training.checkpoint import Checkpoints
from lm.training.load import read_newest_params
from lm.training.program import Program
from lm.training.quantized import is_quantized
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
    """

    state: State
    kept: dict[str, Any] | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)


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
    _compare_tokenizers(words, source, mixture)
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

    Raises:
      UserError: there are no such parameters, or they do not fit.
    """
    state = program.init_state()
    init_from = program.config.checkpoint.init_from
    if not init_from:
        return Origin(state)
    words, source = f'checkpoint.init_from={init_from}', Workdir(init_from, 'checkpoint.init_from')
    if is_quantized(source):
        raise UserError(
            f'{words}: its matrices are int8, not to be trained; give what it was made of'
        )
    _compare_tokenizers(words, source, mixture)
    params = read_newest_params(source, program.abstract_state.params, words)
    params = jax.tree.map(lambda x, own: x.astype(own.dtype), params, state.params)
    return Origin(state._replace(params=params), None, {'init_from': (None, init_from)})


def _compare_tokenizers(words: str, source: Workdir, mixture: Mixture) -> None:
    """Refuses parameters whose token ids mean other pieces: nothing else would tell."""
    path = source.tokenizer_file
    if path.exists() and load_tokenizer(path).sha256 != mixture.tokenizer.sha256:
        raise UserError(f'{words}: was trained with another tokenizer; set data.tokenizer={path}')
