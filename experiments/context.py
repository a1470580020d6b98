"""Does a trained model use its context? Its held-out loss beside a bigram's, and without context.

Command: python -m experiments.context --workdir=DIR [--batches=N]
Hardware: 2 CPU cores; a run of bert_tiny, t5_tiny or llama_tiny, trained to its end.
Time: about a minute; a causal model's cut context costs eight times its ordinary loss.
Expected: `below_bigram` and `context_counts` are true for each family: the loss is below that of a
    bigram model of the same targets, and rises by 5 % or more where context is destroyed.

The bigram, from the training rows, predicts a target from the token before it: in CLM and T5 the
target before; in MLM the true left neighbour, which the model itself may not see.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from lm.batch import Batch
from lm.config import require
from lm.data.pipeline import batches
from lm.data.prepare import Prepared, prepare
from lm.evaluation.bigram import Bigram, Pairs, counted, joined
from lm.evaluation.heldout import Score, Scorer, build_scorer, score_batches
from lm.flags import Flags
from lm.generation.language_model import LanguageModel
from lm.objectives._objective import Objective, build_objective
from lm.training.evaluate import packed_rows
from lm.training.load import load

from ._command import run_command

SEEN = 8
"""Tokens of context that are left to a causal model."""

DESTROYED = {
    'encoder': "visible tokens shuffled within each row's segments",
    'encoder_decoder': "another row's encoder input",
    'decoder': f'context cut to {SEEN} tokens',
}

_FIT_BATCHES = 1000
_TUNED_ON = 10  # every tenth training batch fits the weights, the others are counted


def pairs_of(batch: Batch, family: str, bos_id: int, all_text: bool = False) -> Pairs:
    """The targets of a batch that count, each with the token before it.

    `all_text` takes all of a masked row: to count in, not to be scored on.
    """
    targets, counts = np.asarray(batch.targets), np.asarray(batch.loss_weights) > 0
    if family == 'encoder':
        # A masked row's targets are all it held before it was masked.
        inside = np.asarray(batch.positions) > 0
        before = np.where(inside, np.roll(targets, 1, axis=1), bos_id)
        counts = inside if all_text else counts
    elif family == 'encoder_decoder':
        before = np.asarray(batch.decoder_tokens)
    else:
        before = np.asarray(batch.tokens)
    return Pairs(before[counts].astype(np.int64), targets[counts].astype(np.int64))


def shuffled(batch: Batch, rng: np.random.Generator) -> Batch:
    """What a masked row shows, in random order within each segment; what it hides stays."""
    tokens = np.array(batch.tokens)
    segment_ids, weights = np.asarray(batch.segment_ids), np.asarray(batch.loss_weights)
    for row, segments, hidden in zip(tokens, segment_ids, weights, strict=True):
        for segment in range(1, int(segments.max()) + 1):
            places = np.flatnonzero((segments == segment) & (hidden == 0))
            row[places] = row[rng.permutation(places)]
    return batch._replace(tokens=tokens)


def swapped(batch: Batch) -> tuple[Batch, Batch]:
    """The batch, and the batch with each row's encoder input from the row before it.

    In both, targets count only where the other row has a segment of the same number to read.
    """
    tokens, segment_ids, positions = (
        np.roll(x, 1, axis=0) for x in (batch.tokens, batch.segment_ids, batch.positions)
    )
    there = np.asarray(batch.decoder_segment_ids) <= segment_ids.max(axis=1, keepdims=True)
    weights = np.where(there, np.asarray(batch.loss_weights), 0).astype(np.float32)
    same = batch._replace(loss_weights=weights)
    return same, same._replace(tokens=tokens, segment_ids=segment_ids, positions=positions)


def cut(batch: Batch) -> Iterator[Batch]:
    """Every target with the `SEEN` tokens before it alone, in batches of about as many tokens."""

    def windows(x: Any) -> np.ndarray:
        padded = np.pad(np.asarray(x), ((0, 0), (SEEN - 1, 0)))
        view = np.lib.stride_tricks.sliding_window_view(padded, SEEN, axis=1)
        return view.reshape(-1, SEEN)

    last = np.arange(SEEN) == SEEN - 1
    whole = Batch(
        tokens=windows(batch.tokens),
        segment_ids=windows(batch.segment_ids),
        positions=np.minimum(windows(batch.positions), np.arange(SEEN, dtype=np.int32)),
        targets=windows(batch.targets),
        loss_weights=np.where(last, windows(batch.loss_weights), np.float32(0)),
        prefix=None if batch.prefix is None else windows(batch.prefix),
    )
    for part in range(SEEN):
        yield jax.tree.map(lambda x, part=part: x[part::SEEN], whole)


def example_batches(
    model: LanguageModel, prepared: Prepared, objective: Objective, held_out: bool, most: int
) -> Iterator[Batch]:
    """Batches of an epoch, at most `most`; of held-out rows the same as the run's own."""
    config = model.config.train
    rows = packed_rows(objective, prepared, config.seed, held_out=held_out)
    made = batches(
        rows, objective.example, batch_size=config.batch_size, start_row=0,
        stop_row=rows.rows_per_epoch, seed=0, threads=1,
    )  # fmt: skip
    return itertools.islice(made, most)


def fitted_bigram(model: LanguageModel, prepared: Prepared, objective: Objective) -> Bigram:
    """A bigram model of the objective's targets, from the training rows alone."""
    family, vocabulary = model.functional.family, prepared.tokenizer.vocabulary
    parts: tuple[list[Pairs], list[Pairs]] = ([], [])
    for i, batch in enumerate(example_batches(model, prepared, objective, False, _FIT_BATCHES)):
        tuned_on = i % _TUNED_ON == 0
        parts[tuned_on].append(pairs_of(batch, family, vocabulary.bos_id, all_text=True))
    require(bool(parts[0]), 'data.source: one batch is too little text for a bigram')
    return counted(joined(parts[0]), vocabulary.size).tuned(joined(parts[1]))


def without_context(
    scorer: Scorer, model: LanguageModel, held_out: list[Batch]
) -> tuple[Score, Score]:
    """The score as it is, and with context destroyed; of the same targets."""
    rng = np.random.default_rng(0)
    family = model.functional.family
    whole: Iterable[Batch] = held_out
    if family == 'encoder':
        broken: Iterable[Batch] = (shuffled(batch, rng) for batch in held_out)
    elif family == 'decoder':
        broken = itertools.chain.from_iterable(map(cut, held_out))
    else:
        whole, broken = zip(*map(swapped, held_out), strict=True)
    return score_batches(scorer, model.params, whole), score_batches(scorer, model.params, broken)


def measure(workdir: str, most_batches: int) -> dict[str, Any]:
    """What the model of a run makes of its context, on at most so many held-out batches.

    Raises:
      UserError: there is no such run, or its text is no longer what it was trained on.
    """
    require(most_batches >= 1, f'batches={most_batches}: must be at least 1')
    model = load(workdir)
    family = model.functional.family
    prepared = prepare(model.config.data, model.config.model.vocab_size)
    vocabulary = prepared.tokenizer.vocabulary
    require(
        vocabulary == model.tokenizer.vocabulary,
        f'workdir={workdir}: data.source or its tokenizer is not what it was',
    )
    objective = build_objective(model.config, vocabulary)
    held_out = list(example_batches(model, prepared, objective, True, most_batches))
    scorer = build_scorer(model.functional, objective)
    score = score_batches(scorer, model.params, held_out)
    whole, destroyed = without_context(scorer, model, held_out)
    pairs = joined([pairs_of(batch, family, vocabulary.bos_id) for batch in held_out])
    bigram = fitted_bigram(model, prepared, objective).nats(pairs) / len(pairs.target)
    return {
        'family': family,
        'targets': int(score.targets),
        'loss': score.loss,
        'bigram_loss': bigram,
        'loss_over_bigram': score.loss / bigram,
        'below_bigram': score.loss < bigram,
        'destroyed': DESTROYED[family],
        'destroyed_targets': int(destroyed.targets),
        'destroyed_loss': destroyed.loss,
        'destroyed_over_whole': destroyed.loss / whole.loss,
        'context_counts': destroyed.loss >= 1.05 * whole.loss,
    }


def main() -> int:
    """Prints the measurement as one JSON object."""
    return run_command('context', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('workdir', str, '', "the run's folder")
    flags.define('batches', int, 16, 'held-out batches to measure on')


def _run(flags: Flags) -> dict[str, Any]:
    return measure(flags.required('workdir'), flags['batches'])


if __name__ == '__main__':
    sys.exit(main())
