"""Decoding from what is kept is decoding by a whole forward pass, whatever the model and mesh."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm import registry
from lm.batch import Batch
from lm.config import MeshConfig
from lm.generation import decode as decoding
from lm.generation.decode import decode, right_aligned
from lm.generation.reading import Afresh, Kept
from lm.generation.sampling import Sampling
from lm.mesh.mesh import build
from lm.models.context import Context
from lm.models.decoder import DecoderModel
from lm.models.functional import Functional
from lm.precision.policy import POLICIES
from lm.shapes import Params
from lm.training.quantized import joined, rounded_params
from tests.crossed import crossed
from tests.models.tiny import perturbed, tiny
from tests.models.tiny import side as of_one_row

FAMILY = {name: registry.lookup('models', name, '').FAMILY for name in registry.names('models')}
GOES_ON = sorted(name for name, family in FAMILY.items() if family != 'encoder')
VOCABULARY = 40
LENGTHS = (7, 1, 4)
LONGEST = 16


@functools.cache
def made(name: str, scan_layers: bool = False) -> tuple[Functional, Params]:
    model = tiny(
        name, vocab_size=VOCABULARY, max_positions=32, num_layers=3, scan_layers=scan_layers
    )
    return model, perturbed(model, noise=0.3)


def source(name: str) -> Batch | None:
    """What an encoder reads: rows of unequal length."""
    if FAMILY[name] != 'encoder_decoder':
        return None
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (len(LENGTHS), 9)).astype(np.int32)
    segments = (np.arange(9) < np.array([[9], [4], [6]])).astype(np.int32)
    return Batch(tokens, segments, np.arange(9, dtype=np.int32) * segments)


def prompts() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, VOCABULARY, n).astype(np.int32) for n in LENGTHS]


@functools.cache
def applying(model: Functional) -> Any:
    """One program for the rows of a model, whatever they are compared with."""
    return jax.jit(model.apply)


def alone(
    model: Functional, params: Params, ids: list[int], side: Batch | None, places: int = LONGEST
) -> np.ndarray:
    """Logits of every place of one text that begins at the first place: a whole forward pass."""
    fields = of_one_row([len(ids)], places, np.resize(ids, places))
    if side is None:
        batch = Batch(*fields)
    else:
        batch = side._replace(
            decoder_tokens=fields[0], decoder_segment_ids=fields[1], decoder_positions=fields[2]
        )
    return np.asarray(applying(model)(params, batch)[0, : len(ids)])


@pytest.mark.parametrize(('name', 'scan_layers'), crossed(GOES_ON, [False, True], every=2))
def test_logits_are_those_of_the_whole_row(name: str, scan_layers: bool) -> None:
    """Of prompts of unequal lengths, and of four tokens after each of them."""
    model, params = made(name, scan_layers)
    given, side = prompts(), source(name)
    batch, places = right_aligned(given, side, None, 16)
    assert places == 16
    read = jax.jit(Kept(model).read, static_argnums=2)
    advance = jax.jit(Kept(model).advance)
    logits_BV, state = read(params, batch, places + 4)
    added = np.random.default_rng(2).integers(0, VOCABULARY, (4, len(LENGTHS))).astype(np.int32)
    got = [logits_BV]
    for tokens_B in added:
        logits_BV, state = advance(params, jnp.asarray(tokens_B), state)
        got.append(logits_BV)
    for i, ids in enumerate(given):
        own = None if side is None else jax.tree.map(lambda x, i=i: x[i : i + 1], side)
        want = alone(model, params, [*ids, *added[:, i]], own)[len(ids) - 1 :]
        scale = np.abs(want[np.isfinite(want)]).max()
        for at, row in enumerate(got):
            np.testing.assert_allclose(
                np.asarray(row[i]), want[at], rtol=0, atol=2e-5 * scale, err_msg=f'{i} {at}'
            )


@pytest.mark.parametrize('window', [1, 3])
def test_a_window_moves_with_the_place(window: int) -> None:
    model = tiny('llama', vocab_size=VOCABULARY, options={'attention_window': window})
    params, given = perturbed(model, noise=0.3), prompts()
    batch, places = right_aligned(given, None, None, 16)
    logits_BV, state = jax.jit(Kept(model).read, static_argnums=2)(params, batch, places + 4)
    advance = jax.jit(Kept(model).advance)
    added = np.random.default_rng(2).integers(0, VOCABULARY, (4, len(LENGTHS))).astype(np.int32)
    got = [logits_BV]
    for tokens_B in added:
        logits_BV, state = advance(params, jnp.asarray(tokens_B), state)
        got.append(logits_BV)
    for i, ids in enumerate(given):
        want = alone(model, params, [*ids, *added[:, i]], None)[len(ids) - 1 :]
        np.testing.assert_allclose(np.stack(got)[:, i], want, rtol=0, atol=1e-4)


class Constant(DecoderModel):
    """A user's model that says anew how a text is read, and not how one token more."""

    def hidden(self, batch: Batch, context: Context) -> jax.Array:
        return jnp.ones_like(super().hidden(batch, context))


@pytest.mark.parametrize('name', ['its_hidden', 'its_call'])
def test_what_is_read_anew_by_a_users_model_is_decoded_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = registry.lookup('models', 'llama', '')
    build_llama = llama.build
    built: list[Any] = []

    def build(config: Any, rngs: Any) -> Any:
        model = build_llama(config, rngs)
        kind = Constant
        if name == 'its_call':
            kind = type('Louder', (DecoderModel,), {'__call__': lambda self, batch, **how: 2.0
                        * DecoderModel.__call__(self, batch, **how)})  # fmt: skip
        model.__class__ = kind
        built.append(kind)
        return model

    monkeypatch.setattr(llama, 'build', build)
    model = tiny('llama', vocab_size=VOCABULARY, max_positions=32)
    params = perturbed(model, noise=0.3)
    assert built and not model.goes_on
    [ids] = prompts()[:1]
    out = decode(
        model, params, [ids], max_new_tokens=3, window=32, forbidden=[], ends=[VOCABULARY - 1],
        sampling=Sampling(0.0), keys_B=jax.random.split(jax.random.key(1), 1),
    )  # fmt: skip
    logits = alone(model, params, ids.tolist(), None)[-1]
    assert out.tokens_BN[0, 0] == logits.argmax()
    assert out.log_probs_BN[0, 0] == pytest.approx(
        float(jax.nn.log_softmax(logits).max()), abs=1e-4
    )


@pytest.mark.parametrize('name', ['llama', 'bloom', 'gpt2'])
def test_a_prefix_is_seen_both_ways(name: str) -> None:
    model, params = made(name)
    given = prompts()
    batch, places = right_aligned(given, None, [len(ids) for ids in given], 16)
    logits_BV, _ = jax.jit(Kept(model).read, static_argnums=2)(params, batch, places)
    for i, ids in enumerate(given):
        rows = Batch(*of_one_row([len(ids)], LONGEST, np.resize(ids, LONGEST)))
        prefix = np.asarray(rows.segment_ids) > 0
        want = applying(model)(params, rows._replace(prefix=prefix))[0, len(ids) - 1]
        np.testing.assert_allclose(logits_BV[i], want, rtol=0, atol=1e-4)
        if len(ids) > 1:
            apart = np.asarray(logits_BV[i]) - alone(model, params, ids.tolist(), None)[-1]
            assert np.abs(apart).max() > 1e-2


@pytest.mark.parametrize('name', GOES_ON)
def test_kept_and_afresh_say_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, params = made(name)

    def said(sampling: Sampling) -> decoding.Decoded:
        return decode(
            model, params, prompts(), source(name), max_new_tokens=9, window=32,
            forbidden=[0, 3], ends=[1], sampling=sampling,
            keys_B=jax.random.split(jax.random.key(3), len(LENGTHS)),
        )  # fmt: skip

    for sampling in (Sampling(0.0), Sampling(0.9, top_k=20, top_p=0.95)):
        kept = said(sampling)
        with monkeypatch.context() as patched:
            patched.setattr(decoding, 'Kept', lambda functional: Afresh(functional, 32))
            afresh = said(sampling)
        np.testing.assert_array_equal(kept.tokens_BN, afresh.tokens_BN)
        np.testing.assert_allclose(kept.log_probs_BN, afresh.log_probs_BN, rtol=0, atol=1e-3)
        assert not np.isin(kept.tokens_BN, [0, 3]).any()


@pytest.mark.parametrize(('name', 'scan_layers'), crossed(GOES_ON, [False, True], every=2))
def test_layers_apart_compute_the_same(name: str, scan_layers: bool) -> None:
    """And what is apart already stays as it is."""
    model, params = made(name, scan_layers)
    apart = model.apart(params)
    assert apart.keys() == params.keys() and len(jax.tree.leaves(apart)) > len(params)
    assert all(
        a is b for a, b in zip(*map(jax.tree.leaves, (apart, model.apart(apart))), strict=True)
    )
    batch, places = right_aligned(prompts(), source(name), None, 16)
    read = jax.jit(Kept(model).read, static_argnums=2)
    (want, state), (got, _) = read(params, batch, places + 1), read(apart, batch, places + 1)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    advance, tokens_B = jax.jit(Kept(model).advance), jnp.arange(len(LENGTHS))
    want, got = (advance(held, tokens_B, state)[0] for held in (params, apart))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_int8_weights_are_decoded_as_a_whole_forward_pass_reads_them() -> None:
    model, params = made('llama')
    small = joined(rounded_params(params, model.dims, POLICIES['fp32']))
    [ids] = prompts()[:1]
    out = decode(
        model, small, [ids], max_new_tokens=6, window=32, forbidden=[], ends=[VOCABULARY],
        sampling=Sampling(0.0), keys_B=jax.random.split(jax.random.key(1), 1),
    )  # fmt: skip
    row = [*ids.tolist(), *out.tokens_BN[0].tolist()]
    logits = alone(model, small, row, None)[len(ids) - 1 : -1]
    np.testing.assert_array_equal(out.tokens_BN[0], logits.argmax(-1))
    assert np.abs(logits - alone(model, params, row, None)[len(ids) - 1 : -1]).max() > 1e-3


def test_rows_do_not_depend_on_one_another() -> None:
    model, params = made('llama')
    keys = jax.random.split(jax.random.key(5), len(LENGTHS))
    how = {'max_new_tokens': 8, 'window': 32, 'forbidden': [], 'ends': [1]}
    together = decode(model, params, prompts(), sampling=Sampling(), keys_B=keys, **how)
    for i, ids in enumerate(prompts()):
        row = decode(model, params, [ids], sampling=Sampling(), keys_B=keys[i : i + 1], **how)
        np.testing.assert_array_equal(row.tokens_BN[0], together.tokens_BN[i])


@pytest.mark.parametrize('name', ['gpt2', 'llama', 'bart'])
def test_a_row_that_just_fits_is_not_read_again(name: str) -> None:
    model, params = made(name)
    how = {'max_new_tokens': 33 - max(LENGTHS), 'forbidden': [], 'ends': [VOCABULARY]}
    drawing = {'sampling': Sampling(0.0), 'keys_B': jax.random.split(jax.random.key(0), 3)}
    reading, _, _ = decoding.read_by(model, prompts(), source(name), None, 32, 33 - max(LENGTHS))
    assert isinstance(reading, Kept)
    more, _, _ = decoding.read_by(model, prompts(), source(name), None, 32, 34 - max(LENGTHS))
    assert isinstance(more, Afresh)
    out = decode(model, params, prompts(), source(name), window=32, **how, **drawing)
    for i, ids in enumerate(prompts()):
        row = np.concatenate([ids, out.tokens_BN[i]])
        side = source(name)
        side = None if side is None else jax.tree.map(lambda x, i=i: x[i : i + 1], side)
        logits = alone(model, params, row[:-1].tolist(), side, places=32)
        np.testing.assert_array_equal(out.tokens_BN[i], logits[len(ids) - 1 :].argmax(-1))


def test_one_program_serves_all_settings_and_lengths() -> None:
    model, params = made.__wrapped__('llama')  # of which nothing is compiled yet
    compiled = decoding._go_on._cache_size(), decoding._begin._cache_size()
    for sampling, new, ids in (
        (Sampling(), 3, [5]),
        (Sampling(0.0), 9, [5, 6, 7]),
        (Sampling(0.7, top_k=3), 14, [5, 6]),
        (Sampling(1.3, top_p=0.5), 8, [9] * 10),
    ):
        decode(
            model, params, [np.array(ids, np.int32)], max_new_tokens=new, window=32, forbidden=[],
            ends=[1], sampling=sampling, keys_B=jax.random.split(jax.random.key(0), 1),
        )  # fmt: skip
    grown = decoding._go_on._cache_size(), decoding._begin._cache_size()
    assert [after - before for after, before in zip(grown, compiled, strict=True)] == [1, 1]


def test_log_probs_are_the_models_own() -> None:
    model, params = made('llama')
    [ids] = prompts()[:1]
    out = decode(
        model, params, [ids], max_new_tokens=6, window=32, forbidden=[2], ends=[VOCABULARY - 1],
        sampling=Sampling(0.5, top_k=3), keys_B=jax.random.split(jax.random.key(1), 1),
    )  # fmt: skip
    chosen = out.tokens_BN[0].tolist()
    ends = np.flatnonzero(np.array(chosen) == VOCABULARY - 1)
    count = int(ends[0]) + 1 if ends.size else len(chosen)
    logits = alone(model, params, [*ids, *chosen], None)[len(ids) - 1 :]
    want = jax.nn.log_softmax(logits)[np.arange(count), chosen[:count]]
    np.testing.assert_allclose(out.log_probs_BN[0, :count], want, rtol=0, atol=1e-4)
    assert (out.log_probs_BN[0, count:] == 0).all()


@pytest.mark.parametrize('axes', [{'fsdp': 4}, {'fsdp': 2, 'tensor': 2}])
@pytest.mark.parametrize('name', ['llama', 't5', 'lstm', 'lstm_seq2seq'])
def test_on_a_mesh_the_same_tokens_are_drawn(name: str, axes: dict[str, int]) -> None:
    """The state split as by zero3, the cache by rows and heads."""
    model, params = made(name)
    count = math.prod(axes.values())
    layout = build(
        MeshConfig(strategy='zero3', replica=1, devices=count, **axes), 4, 1, jax.devices()[:count]
    )
    spread = {
        path: jax.device_put(x, layout.sharding(layout.rules.split(model.dims[path], x.shape)))
        for path, x in params.items()
    }
    given = [*prompts(), prompts()[0][:3]]
    side = source(name)
    if side is not None:
        side = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), side)
    how = {
        'max_new_tokens': 8, 'window': 32, 'forbidden': [], 'ends': [1],
        'sampling': Sampling(0.8, top_k=12), 'keys_B': jax.random.split(jax.random.key(4), 4),
    }  # fmt: skip
    want = decode(model, params, given, side, **how)
    got = decode(model.on(layout), spread, given, side, **how)
    np.testing.assert_array_equal(got.tokens_BN, want.tokens_BN)
    np.testing.assert_allclose(got.log_probs_BN, want.log_probs_BN, rtol=0, atol=1e-4)
