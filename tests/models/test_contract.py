"""What every architecture promises, whatever it is. A new file of architectures joins by itself."""

import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm import registry
from lm.batch import Batch
from lm.models.functional import functional
from lm.models.spec import PositionKind
from lm.named_configs import load_config
from lm.precision.policy import POLICIES
from lm.shapes import DIMENSIONS, Params, is_matrix
from tests.crossed import crossed
from tests.models.tiny import (
    DECODER_LENGTH,
    LENGTH,
    RECURRENT,
    VOCABULARY,
    packed_batch,
    perturbed,
    predicting,
    side,
    tiny,
)
from tests.models.tracing import equations

ARCHITECTURES = registry.names('models')
WITH_POSITIONS = [name for name in ARCHITECTURES if name not in RECURRENT]
every_architecture = pytest.mark.parametrize('name', ARCHITECTURES)


def loss_and_gradients(name: str, **changes: object) -> tuple[jax.Array, Params]:
    """Of a batch with dropout, by the model with the given settings and the same parameters."""
    model = tiny(name, dropout=0.2, **changes)
    batch = packed_batch(model)
    targets, segments = predicting(batch)

    def loss(params: Params) -> jax.Array:
        logits_BTV = model.apply(params, batch, dropout_key=jax.random.key(7))
        log_p_BTV = jax.nn.log_softmax(logits_BTV)
        nats_BT = -jnp.take_along_axis(log_p_BTV, targets[..., None], axis=-1)[..., 0]
        return jnp.sum(nats_BT * (segments > 0))

    return jax.jit(jax.value_and_grad(loss))(perturbed(model))


@functools.cache
def plain_loss_and_gradients(name: str) -> tuple[jax.Array, Params]:
    return loss_and_gradients(name)


@pytest.mark.parametrize(
    ('name', 'scan_layers', 'remat'),
    crossed(
        ARCHITECTURES,
        [
            (True, 'dots'),
            (True, 'full'),
            (True, 'offload'),
            (False, 'offload'),
            (False, 'none'),
            (False, 'full'),
        ],
        every=3,
    ),
)
def test_scan_and_remat_change_no_number(name: str, scan_layers: bool, remat: str) -> None:
    want_loss, want = plain_loss_and_gradients(name)
    loss, got = loss_and_gradients(name, scan_layers=scan_layers, remat=remat)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    for path in want:
        # A key bias has no gradient but rounding, of the size of what cancels in it: the key's.
        scale = want[path.replace('key_bias', 'key')]
        assert np.abs(got[path] - want[path]).max() <= 1e-5 * np.abs(scale).max() + 1e-6, path


@pytest.mark.parametrize('name', ['gpt2', 'modernbert', 't5', 'lstm'])
def test_a_scan_in_larger_turns_changes_no_number(name: str) -> None:
    layers, remat = 4, 'full' if name == 't5' else 'none'
    model = tiny(name, num_layers=layers, remat=remat, scan_unroll=2)
    traced = jax.make_jaxpr(model.apply)(model.shapes, packed_batch(model)).jaxpr
    scans = [e.params for e, _ in equations(traced) if e.primitive.name == 'scan']
    assert {scan['unroll'] for scan in scans if scan['length'] == layers} == {2}
    want_loss, want = loss_and_gradients(name, num_layers=layers, remat=remat)
    loss, got = loss_and_gradients(name, num_layers=layers, remat=remat, scan_unroll=2)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-6)
    for path in want:
        scale = want[path.replace('key_bias', 'key')]
        assert np.abs(got[path] - want[path]).max() <= 1e-5 * np.abs(scale).max() + 1e-6, path


@functools.cache
def influence(name: str) -> tuple[np.ndarray, Batch]:
    """How much each token of the row moves each position's logits: [T, S], and the batch.

    The gradient of a position's logits with respect to the embedding's rows; no id comes twice,
    so a row is a position. Logits of ids that the batch does not hold are read, lest a tied
    output matrix be taken for an input. In an encoder-decoder the encoder's tokens come first.
    """
    model = tiny(name)
    batch = packed_batch(model)
    params = perturbed(model)
    ids = np.concatenate([f[0] for f in (batch.tokens, batch.decoder_tokens) if f is not None])
    others = np.setdiff1d(np.arange(VOCABULARY), ids)
    weights = np.random.default_rng(0).standard_normal(len(others)).astype(np.float32)

    def read(table_VD: jax.Array) -> jax.Array:
        logits_BTV = model.apply({**params, 'embedding/tokens': table_VD}, batch)
        return logits_BTV[0][:, others] @ weights

    gradient_TVD = jax.jit(jax.jacrev(read))(params['embedding/tokens'])
    return np.abs(np.asarray(gradient_TVD)).max(axis=-1)[:, ids], batch


def visible(batch: Batch, causal: bool) -> np.ndarray:
    """[T, S]: whether a position may see a token, in the order of `influence`."""
    _, segments = predicting(batch)
    own = segments[0][:, None] == segments[0][None, :]
    if causal:
        own &= np.tri(len(own), dtype=bool)
    if batch.decoder_tokens is None:
        return own
    return np.concatenate([segments[0][:, None] == np.asarray(batch.segment_ids), own], axis=1)


@every_architecture
def test_no_token_is_seen_across_segments_or_from_padding(name: str) -> None:
    matrix, batch = influence(name)
    real = predicting(batch)[1][0] > 0
    hidden = ~visible(batch, causal=False)
    assert hidden[real].any()
    assert (matrix[real] * hidden[real] == 0).all()


@every_architecture
def test_a_decoder_sees_no_later_token(name: str) -> None:
    if tiny(name).family == 'encoder':
        pytest.skip('an encoder sees both ways')
    matrix, _ = influence(name)
    own = matrix[:, -len(matrix) :]
    assert (np.triu(own, 1) == 0).all()


@every_architecture
def test_every_visible_token_counts(name: str) -> None:
    matrix, batch = influence(name)
    real = predicting(batch)[1][0] > 0
    seen = visible(batch, causal=tiny(name).family != 'encoder')
    assert (matrix[real][seen[real]] > 1e-6).all()


@every_architecture
def test_packed_rows_equal_documents_one_by_one(name: str) -> None:
    model = tiny(name)
    params = perturbed(model)
    batch = packed_batch(model)
    apply = jax.jit(model.apply)
    packed = apply(params, batch)
    _, segments = predicting(batch)
    for segment in (1, 2):
        fields = []
        for tokens, ids in (
            (batch.tokens, batch.segment_ids),
            (batch.decoder_tokens, batch.decoder_segment_ids),
        ):
            if tokens is not None and ids is not None:
                alone = np.asarray(tokens)[np.asarray(ids) == segment]
                padded = np.concatenate([alone, np.zeros(tokens.shape[1] - len(alone), np.int32)])
                fields += side([len(alone)], tokens.shape[1], padded)
        want = packed[0, segments[0] == segment]
        got = apply(params, Batch(*fields))[0, : len(want)]
        np.testing.assert_allclose(
            got[:, :VOCABULARY],
            want[:, :VOCABULARY],
            atol=1e-5 * np.abs(want[:, :VOCABULARY]).max(),
        )


@pytest.mark.parametrize('name', WITH_POSITIONS)
@pytest.mark.parametrize('kind', typing.get_args(PositionKind))
def test_order_is_known_by_positions_alone(name: str, kind: str) -> None:
    # One layer: a causal stack tells the order by which tokens the earlier positions saw.
    model = tiny(name, num_layers=1, options={'positions': kind})
    params = perturbed(model)
    rng = np.random.default_rng(0)
    tokens = rng.permutation(VOCABULARY)[:LENGTH]
    order = np.concatenate([rng.permutation(LENGTH - 1), [LENGTH - 1]])
    decoder = side([DECODER_LENGTH], DECODER_LENGTH, tokens[::-1])
    decoder = decoder if model.family == 'encoder_decoder' else []
    apply = jax.jit(model.apply)
    before = apply(params, Batch(*side([LENGTH], LENGTH, tokens), *decoder))
    after = apply(params, Batch(*side([LENGTH], LENGTH, tokens[order]), *decoder))
    if model.family == 'encoder':
        before = before[:, order]
    if model.family == 'decoder':
        before, after = before[:, -1:], after[:, -1:]
    before, after = before[..., :VOCABULARY], after[..., :VOCABULARY]
    difference = np.abs(before - after).max() / np.abs(before).max()
    assert difference < 1e-5 if kind == 'none' else difference > 1e-3


@every_architecture
def test_vocabulary_padding_has_no_probability_and_finite_gradients(name: str) -> None:
    model = tiny(name)
    params, batch = perturbed(model), packed_batch(model)
    targets, _ = predicting(batch)

    def loss(params: Params) -> tuple[jax.Array, jax.Array]:
        logits_BTV = model.apply(params, batch)
        log_p_BTV = jax.nn.log_softmax(logits_BTV)
        return -jnp.take_along_axis(log_p_BTV, targets[..., None], axis=-1).mean(), logits_BTV

    (value, logits_BTV), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert logits_BTV.shape[-1] > VOCABULARY
    assert (logits_BTV[..., VOCABULARY:] == -jnp.inf).all()
    assert jnp.isfinite(logits_BTV[..., :VOCABULARY]).all() and jnp.isfinite(value)
    for path, gradient in gradients.items():
        assert jnp.isfinite(gradient).all(), path
        if 'V' in model.dims[path]:
            axis = model.dims[path].index('V')
            padding = np.take(gradient, range(VOCABULARY, gradient.shape[axis]), axis=axis)
            assert (padding == 0).all(), path


@every_architecture
def test_dropout_follows_its_key(name: str) -> None:
    model = tiny(name, dropout=0.3)
    params, batch = perturbed(model), packed_batch(model)
    apply = jax.jit(model.apply)
    plain = apply(params, batch)
    one, again = (apply(params, batch, dropout_key=jax.random.key(1)) for _ in range(2))
    two = apply(params, batch, dropout_key=jax.random.key(2))
    assert (one == again).all()
    assert (one != two).any() and (one != plain).any()
    never = tiny(name).apply(params, batch, dropout_key=jax.random.key(1))
    np.testing.assert_allclose(never, plain, rtol=1e-4, atol=1e-4)


@every_architecture
def test_bf16_stays_close_and_logits_are_fp32(name: str) -> None:
    params = perturbed(tiny(name), noise=0.02)
    batch = packed_batch(tiny(name))
    want = jax.jit(tiny(name).apply)(params, batch)[..., :VOCABULARY]
    got = jax.jit(tiny(name, 'bf16_mixed').apply)(params, batch)[..., :VOCABULARY]
    assert got.dtype == want.dtype == jnp.float32
    assert 0 < np.abs(got - want).max() <= 0.05 * np.abs(want).max()


@every_architecture
def test_fp32_means_fp32_multiplies_in_both_passes(name: str) -> None:
    model = tiny(name, remat='dots')
    batch = packed_batch(model)

    def total(params: Params) -> jax.Array:
        return model.apply(params, batch)[..., :VOCABULARY].sum()

    program = jax.make_jaxpr(jax.grad(total))(model.shapes)
    products = [e for e, _ in equations(program.jaxpr) if e.primitive.name == 'dot_general']
    matrices = [path for path, letters in model.dims.items() if is_matrix(letters)]
    assert len(products) >= 3 * sum('/layers/' in path for path in matrices)
    highest = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)
    assert all(product.params['precision'] == highest for product in products)


@every_architecture
def test_dims_name_every_axis_once(name: str) -> None:
    model = tiny(name)
    sizes: dict[str, int] = {}
    assert [*model.dims] == [*model.shapes]
    for path, letters in model.dims.items():
        shape = model.shapes[path].shape
        assert len(letters) == len(shape), path
        for letter, size in zip(letters, shape, strict=True):
            assert letter in DIMENSIONS, path
            assert sizes.setdefault(letter, size) == size, path
        assert ('/layers/' in path) == letters.startswith('L'), path
    assert sizes['D'] == 16 and sizes['V'] == 40


@every_architecture
def test_layers_begin_different_and_vocabulary_padding_zero(name: str) -> None:
    model = tiny(name)
    params = jax.jit(model.init)(jax.random.key(0))
    for path, letters in model.dims.items():
        if 'V' in letters:
            rows = np.moveaxis(np.asarray(params[path]), letters.index('V'), 0)
            assert (rows[VOCABULARY:] == 0).all(), path
        if letters.startswith('L') and is_matrix(letters):
            assert (params[path][0] != params[path][1]).any(), path


@pytest.mark.parametrize('config_name', registry.names('configs'))
def test_named_configs_build_without_memory(config_name: str) -> None:
    config = load_config(config_name, **{'model.vocab_size': 4096}).model
    model = functional(config, POLICIES['fp32'])
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert shapes == model.shapes


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_first_loss_is_that_of_a_uniform_guess(name: str) -> None:
    # At the shapes of the named configs bert_tiny, llama_tiny and t5_tiny.
    sizes: dict[str, int | None] = {'num_layers': 4, 'd_model': 128, 'num_heads': 4, 'd_ff': None}
    sizes.update(num_kv_heads=2, head_dim=32)
    model = tiny(name, vocab_size=2048, max_positions=128, **sizes)
    params = jax.jit(model.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    fields = side([128], 128, rng.integers(2048, size=128))
    if model.family == 'encoder_decoder':
        fields += side([128], 128, rng.integers(2048, size=128))
    logits_BTV = jax.jit(model.apply)(params, Batch(*fields))
    targets = rng.integers(2048, size=(1, 128, 1))
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), targets, axis=-1).mean()
    assert abs(float(loss) - np.log(2048)) <= 0.05 * np.log(2048)
