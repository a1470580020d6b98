"""What every objective promises, whatever it is. A new file of objectives joins by itself."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

from lm import registry
from lm.batch import Batch, Row, stack
from lm.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from lm.data.packing import PackedRows
from lm.models.functional import Functional
from lm.objectives._objective import Objective, Sums, build_objective
from tests.models.tiny import perturbed, tiny
from tests.objectives.rows import SIZE, TEXT, VOCABULARY, packed, segment_alone, store, text_row

SEQ_LEN = 48
ARCHITECTURES = {'encoder': 'bert', 'decoder': 'llama', 'encoder_decoder': 't5'}
HIDES_ALL = {'mlm': {'mask_share': 1.0, 'random_share': 0.0}}
"""Options under which an objective shows nothing of what is to be predicted."""

LEAVES_OUT_SINGLES = {
    ('span_corruption', 'encoder_decoder'), ('prefix_lm', 'encoder_decoder'),
    ('ul2', 'decoder'), ('ul2', 'encoder_decoder'),
}  # fmt: skip
"""Nothing can be cut from a segment of one token, which a row may begin or end with."""

LABELLED = [
    name
    for name in registry.names('objectives')
    if hasattr(registry.lookup('objectives', name, 'objective.name'), 'codec')
]
"""They learn from examples, and have tests of their own."""

PAIRS = [
    (name, family)
    for name in registry.names('objectives')
    for family in registry.lookup('objectives', name, 'objective.name').FAMILIES
    if name not in LABELLED
]
every_objective = pytest.mark.parametrize(('name', 'family'), PAIRS)


def built(name: str, family: str, **options: Any) -> Objective:
    member = registry.lookup('objectives', name, 'objective.name')
    config = Config(
        model=ModelConfig(name=ARCHITECTURES[family]),
        objective=ObjectiveConfig(name, member.Options(**options)),
        train=TrainConfig(seq_len=SEQ_LEN),
    )
    return build_objective(config, VOCABULARY)


@functools.cache
def model(family: str) -> Functional:
    return tiny(ARCHITECTURES[family], vocab_size=SIZE, max_positions=64, num_layers=1)


def segmented(objective: Objective, *shares: int, seed: int = 0, distinct: bool = False) -> Row:
    """A row filled by segments in proportion to `shares`; a last share of 0 is padding."""
    lengths = [objective.row_len * share // 100 for share in shares]
    return text_row(lengths, objective.row_len, objective.boundaries, seed, distinct)


def summed(family: str, objective: Objective, batch: Batch) -> Sums:
    functional = model(family)
    score = jax.jit(lambda params, batch: objective.loss(functional.apply(params, batch), batch))
    return score(perturbed(functional), batch)


@every_objective
def test_a_batch_has_the_promised_shapes(name: str, family: str) -> None:
    objective = built(name, family)
    batch = objective.example(segmented(objective, 50, 30), np.random.default_rng(0))
    assert batch.targets is not None and batch.loss_weights is not None
    two_sided = family == 'encoder_decoder'
    own = {'tokens', 'segment_ids', 'positions', 'prefix'}
    dtypes = {'loss_weights': np.float32, 'prefix': np.bool_}
    for field, array in batch._asdict().items():
        if array is None:
            optional = field in ('prefix', 'token_types')
            assert optional or (not two_sided and field.startswith('decoder_'))
            continue
        assert array.shape == (SEQ_LEN if field in own else objective.target_len,), field
        assert array.dtype == dtypes.get(field, np.int32), field
    assert batch.prefix is None or family == 'decoder'
    assert ((batch.targets >= 0) & (batch.targets < VOCABULARY.size)).all()
    assert ((batch.tokens >= 0) & (batch.tokens < VOCABULARY.size)).all()


@every_objective
def test_padding_counts_nothing(name: str, family: str) -> None:
    objective = built(name, family)
    batch = objective.example(segmented(objective, 40), np.random.default_rng(0))
    segments = batch.segment_ids if batch.decoder_tokens is None else batch.decoder_segment_ids
    assert batch.loss_weights[segments > 0].any()
    assert (batch.loss_weights[segments == 0] == 0).all()
    empty = objective.example(packed([], objective.row_len), np.random.default_rng(0))
    assert not empty.loss_weights.any() and not empty.segment_ids.any()
    assert objective.tokens_used(stack([empty])) == 0


@every_objective
def test_an_example_is_a_function_of_row_and_seed(name: str, family: str) -> None:
    objective = built(name, family)
    row = segmented(objective, 60, 40)
    before = [x.copy() for x in row]
    first = objective.example(row, np.random.default_rng(3))
    again = objective.example(row, np.random.default_rng(3))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, list(row), before)


@every_objective
def test_the_loss_is_a_weighted_sum(name: str, family: str) -> None:
    objective = built(name, family)
    rows = [segmented(objective, 50, 40, seed=i) for i in range(3)]
    examples = [objective.example(row, np.random.default_rng(i)) for i, row in enumerate(rows)]
    whole = summed(family, objective, stack(examples))
    parts = [summed(family, objective, stack([example])) for example in examples]
    assert whole.weight == sum(example.loss_weights.sum() for example in examples)
    np.testing.assert_allclose(whole.loss, sum(part.loss for part in parts), rtol=2e-6)
    doubled = stack(examples)
    doubled = doubled._replace(loss_weights=2 * doubled.loss_weights)
    np.testing.assert_allclose(summed(family, objective, doubled), 2 * np.array(whole), rtol=1e-6)


@every_objective
def test_a_packed_row_is_its_segments_one_by_one(name: str, family: str) -> None:
    objective = built(name, family)
    batch = objective.example(segmented(objective, 45, 35, 20), np.random.default_rng(0))
    together = summed(family, objective, stack([batch]))
    segments = range(1, batch.segment_ids.max() + 1)
    assert len(segments) >= 2
    alone = [summed(family, objective, stack([segment_alone(batch, s)])) for s in segments]
    assert together.weight == sum(part.weight for part in alone)
    np.testing.assert_allclose(together.loss, sum(part.loss for part in alone), rtol=2e-6)


@every_objective
def test_no_position_sees_what_it_is_to_predict(name: str, family: str) -> None:
    """d logits[t] / d embedding[targets[t]] is 0, in rows where no text id comes twice."""
    objective = built(name, family, **HIDES_ALL.get(name, {}))
    row = segmented(objective, 60, 40, distinct=True)
    batch = stack([objective.example(row, np.random.default_rng(0))])
    functional = model(family)
    params = perturbed(functional)
    # Logits of ids that the row lacks: a tied output matrix must not be taken for an input.
    others = np.setdiff1d(TEXT, row.tokens)
    weights = np.random.default_rng(0).standard_normal(len(others)).astype(np.float32)

    def read(table_VD: jax.Array) -> jax.Array:
        logits_BTV = functional.apply({**params, 'embedding/tokens': table_VD}, batch)
        return logits_BTV[0][:, others] @ weights

    gradient_TVD = np.asarray(jax.jit(jax.jacrev(read))(params['embedding/tokens']))
    hidden = np.isin(batch.targets[0], TEXT)
    if name == 'denoising':  # the decoder repeats what the encoder reads, too
        hidden &= ~np.isin(batch.targets[0], batch.tokens)
    predicted = np.flatnonzero((batch.loss_weights[0] > 0) & hidden)
    assert len(predicted) >= 3
    for t in predicted:
        assert (gradient_TVD[t, batch.targets[0, t]] == 0).all(), t
    assert np.abs(gradient_TVD[predicted]).max() > 1e-3


@every_objective
@pytest.mark.parametrize('epochs', [1, 2])
def test_every_token_of_an_epoch_is_used(name: str, family: str, epochs: int) -> None:
    objective = built(name, family)
    rows = PackedRows(
        store([70, 61, 90, 133, 58]), VOCABULARY, objective.row_len, objective.overlap,
        seed=1, shuffle=True, boundaries=objective.boundaries,
    )  # fmt: skip
    count = epochs * rows.rows_per_epoch
    used = sum(
        objective.tokens_used(stack([objective.example(rows.row(i), np.random.default_rng(i))]))
        for i in range(count)
    )
    account = rows.accounting(0, count)
    assert account['padded'] > 0
    single = [np.sum(np.bincount(rows.row(i).segment_ids)[1:] == 1) for i in range(count)]
    assert used == account['tokens'] - (sum(single) if (name, family) in LEAVES_OUT_SINGLES else 0)
