"""Weights begin as the papers have them; bad sizes are told in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.batch import Batch
from lm.errors import UserError
from lm.layout import Layout
from lm.models.context import Context
from lm.models.positions import sinusoids, slopes
from lm.models.spec import gated_width
from tests.models.reference import alibi
from tests.models.tiny import perturbed, side, tiny


def deviations(name: str) -> dict[str, float]:
    model = tiny(
        name,
        num_layers=4,
        d_model=96,
        num_heads=4,
        num_kv_heads=4,
        head_dim=24,
        d_ff=128,
        vocab_size=512,
        max_positions=512,
    )
    params = jax.jit(model.init)(jax.random.key(0))
    return {path: float(np.std(array)) for path, array in params.items()}


@pytest.mark.parametrize('name', ['gpt2', 'bloom'])
def test_what_writes_to_the_residual_stream_begins_smaller(name: str) -> None:
    got = deviations(name)
    for path in ('attention/query', 'attention/key', 'attention/value', 'feed_forward/up'):
        assert got[f'decoder/layers/{path}'] == pytest.approx(0.02, rel=0.05)
    for path in ('attention/output', 'feed_forward/down'):
        assert got[f'decoder/layers/{path}'] == pytest.approx(0.02 / np.sqrt(8), rel=0.05)
    assert got['embedding/tokens'] == pytest.approx(0.02, rel=0.05)
    assert got['decoder/layers/attention/query_bias'] == 0


def test_bert_truncates_at_two_deviations() -> None:
    params = jax.jit(tiny('bert').init)(jax.random.key(0))
    for path in ('embedding/tokens', 'encoder/layers/feed_forward/up', 'head/transform/weight'):
        assert np.abs(params[path]).max() <= 0.04
        assert np.std(params[path]) > 0.015


@pytest.mark.parametrize('name', ['roberta', 'bart'])
def test_roberta_and_bart_begin_normal(name: str) -> None:
    got = deviations(name)
    for path, deviation in got.items():
        begins = 0.0 if 'norm' in path or path.endswith('bias') else 0.02
        assert deviation == pytest.approx(begins, rel=0.05), path


def test_modernbert_truncates_and_begins_smaller_towards_the_stream() -> None:
    # Truncated at two of its deviations a normal keeps 0.8796 of one.
    for path, deviation in deviations('modernbert').items():
        smaller = path.endswith(('attention/output', 'feed_forward/down', 'transform/weight'))
        begins = 0.8796 * 0.02 / (np.sqrt(8) if smaller else 1)
        empty = 'norm' in path or path.endswith('bias')
        assert deviation == pytest.approx(0.0 if empty else begins, rel=0.05), path


def test_a_position_has_the_row_that_the_offset_names() -> None:
    model = tiny('roberta', options={'position_offset': 3})
    params = perturbed(model)
    batch = Batch(*side([18], 18, np.arange(18)))
    assert params['encoder/learned_positions/table'].shape[0] == 21
    rows = {path: jnp.asarray(array) for path, array in params.items()}
    rows['encoder/learned_positions/table'] = rows['encoder/learned_positions/table'][3:]
    plain = tiny('roberta', options={'position_offset': 0})
    assert (jax.jit(model.apply)(params, batch) == jax.jit(plain.apply)(rows, batch)).all()


def test_t5_begins_as_mesh_tensorflow() -> None:
    got = deviations('t5')
    d, h, k, f = 96, 4, 24, 128
    for side_name in ('encoder', 'decoder'):
        layers = f'{side_name}/layers'
        assert got[f'{layers}/attention/query'] == pytest.approx((d * k) ** -0.5, rel=0.05)
        assert got[f'{layers}/attention/key'] == pytest.approx(d**-0.5, rel=0.05)
        assert got[f'{layers}/attention/output'] == pytest.approx((h * k) ** -0.5, rel=0.05)
        assert got[f'{layers}/feed_forward/gate'] == pytest.approx(d**-0.5, rel=0.05)
        assert got[f'{layers}/feed_forward/down'] == pytest.approx(f**-0.5, rel=0.05)
    assert got['embedding/tokens'] == pytest.approx(1.0, rel=0.05)


def test_llama_begins_normal_with_small_residual_projections() -> None:
    got = deviations('llama')
    for path, deviation in got.items():
        to_residual = path.endswith(('attention/output', 'feed_forward/down'))
        expected = 0.02 / np.sqrt(8) if to_residual else 0.02
        assert deviation == pytest.approx(0.0 if 'norm' in path else expected, rel=0.05), path


def test_sinusoids_are_the_papers() -> None:
    positions = np.array([[0, 1, 7, 500]], np.int32)
    got = np.asarray(sinusoids(jnp.asarray(positions), 6))
    for place, position in enumerate(positions[0]):
        for i in range(3):
            angle = position / 10_000 ** (2 * i / 6)
            assert got[0, place, 2 * i] == pytest.approx(np.sin(angle), abs=1e-4)
            assert got[0, place, 2 * i + 1] == pytest.approx(np.cos(angle), abs=1e-4)


def test_sinusoids_of_an_odd_width_are_refused() -> None:
    with pytest.raises(UserError, match=r'model.d_model=15: sinusoidal positions are pairs'):
        tiny('gpt2', d_model=15, options={'positions': 'sinusoidal'})


def test_slopes_are_those_of_the_papers_code() -> None:
    np.testing.assert_allclose(slopes(8), 0.5 ** np.arange(1, 9))
    np.testing.assert_allclose(slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125])
    for heads in (1, 3, 12, 16, 25, 112):
        np.testing.assert_allclose(slopes(heads), -alibi(heads, 2)[:, 0, 1])


def test_gpt_neox_begins_small() -> None:
    got = deviations('gpt_neox')
    for path, deviation in got.items():
        to_residual = path.endswith(('attention/output', 'feed_forward/down'))
        begins = 2 / (4 * np.sqrt(96)) if to_residual else np.sqrt(2 / (5 * 96))
        empty = 'norm' in path or path.endswith('bias')
        assert deviation == pytest.approx(0.0 if empty else begins, rel=0.05), path


def test_gated_width_is_the_published_one() -> None:
    assert gated_width(4096) == 11_008  # LLaMA 7B
    assert gated_width(5120) == 13_824  # LLaMA 13B
    assert gated_width(2048) == 5632  # TinyLlama
    assert gated_width(768) == 2048  # T5 1.1 base
    assert gated_width(1024) == 2816  # T5 1.1 large
    assert gated_width(128) == 352


def test_dropout_keeps_the_mean_and_gives_each_site_its_own_mask() -> None:
    context = Context(Layout(), jnp.float32, 0.25, jax.random.key(0))
    x = jnp.ones((8, 16, 64))
    one, two = context.drop(x, 0), context.drop(x, 1)
    assert set(np.unique(one)) == {0, np.float32(1 / 0.75)}
    assert float(one.mean()) == pytest.approx(1, abs=0.03)
    assert (one != two).any()
    assert (context.part(1).drop(x, 0) != one).any()


def test_rows_longer_than_the_table_of_positions_are_refused() -> None:
    model = tiny('gpt2')
    batch = Batch(*side([19], 19, np.arange(19)))
    with pytest.raises(UserError, match=r'model.max_positions=18: rows of 19 tokens'):
        model.apply(perturbed(model), batch)


def test_an_odd_head_cannot_be_rotated() -> None:
    with pytest.raises(UserError, match=r'model.head_dim=5: rope'):
        tiny('llama', head_dim=5)
