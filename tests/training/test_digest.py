"""The digest of an array: any flipped bit, any two elements swapped; the same on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from lm.training.digest import _digest, digests, not_finite

DTYPES = {'float32': np.uint32, 'bfloat16': np.uint16, 'int32': np.uint32}


def drawn(dtype: str, size: int = 61) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(jnp.asarray(rng.standard_normal(size) * 50, dtype))


@pytest.mark.parametrize('dtype', DTYPES)
def test_every_single_flipped_bit_changes_it(dtype: str) -> None:
    array = drawn(dtype)
    before = digests({'x': array})['x']
    words = array.view(DTYPES[dtype])
    bits = words.dtype.itemsize * 8
    for place in (0, 1, 30, 59, 60):
        for bit in range(bits):
            flipped = words.copy()
            flipped[place] ^= words.dtype.type(1 << bit)
            after = digests({'x': flipped.view(array.dtype)})['x']
            assert after[0] != before[0], f'bit {bit} of element {place}'


@pytest.mark.parametrize('dtype', DTYPES)
def test_permuted_elements_change_it(dtype: str) -> None:
    array = drawn(dtype)
    before = digests({'x': array})['x']
    for i, j in ((0, 1), (3, 35), (0, 60), (12, 44)):
        swapped = array.copy()
        swapped[[i, j]] = swapped[[j, i]]
        after = digests({'x': swapped})['x']
        assert after[0] != before[0], 'each of the two numbers sees it'
        assert after[1] != before[1]
    assert digests({'x': array[::-1].copy()})['x'] != before


@pytest.mark.parametrize('dtype', DTYPES)
def test_same_on_every_mesh(dtype: str) -> None:
    array = drawn(dtype, 64).reshape(16, 4)
    mesh = jax.make_mesh((8,), ('d',), devices=jax.devices()[:8])
    alone = digests({'x': jax.device_put(array, jax.devices()[0])})
    for spec in (PartitionSpec('d'), PartitionSpec(), PartitionSpec(None, None)):
        laid_out = jax.device_put(array, NamedSharding(mesh, spec))
        assert digests({'x': laid_out}) == alone


def test_tree_paths_and_shapes() -> None:
    tree = {'a': {'b': jnp.zeros((2, 3))}, 'c': (jnp.int32(4), jnp.ones(()))}
    assert [*digests(tree)] == ['a/b', 'c/0', 'c/1']
    # Zeros and the number of zeros both count: an array cut short is another array.
    assert digests({'x': jnp.zeros(4)}) != digests({'x': jnp.zeros(5)})


def test_not_finite_names_the_leaves() -> None:
    tree = {'a': jnp.ones(3), 'b': jnp.array([1, jnp.nan]), 'c': jnp.int32(3), 'd': jnp.inf}
    assert not_finite(tree) == ['b', 'd']
    assert not_finite({'a': jnp.ones(3, jnp.bfloat16)}) == []


def test_against_plain_sums() -> None:
    # What checkpoints of earlier versions hold is this, modulo 2**32.
    words = drawn('float32').view(np.uint32).astype(object)
    places = np.arange(61, dtype=object)

    def mix(h: int) -> int:
        h = (h ^ (h >> 16)) * 0x85EBCA6B % 2**32
        h = (h ^ (h >> 13)) * 0xC2B2AE35 % 2**32
        return h ^ (h >> 16)

    linear = sum(words * (2 * places + 1)) % 2**32
    mixed = sum(mix(word ^ mix(place)) for word, place in zip(words, places, strict=True)) % 2**32
    assert digests({'x': drawn('float32')})['x'] == [linear, mixed]


def test_no_memory_of_the_arrays_size_is_needed() -> None:
    array = jax.ShapeDtypeStruct((64, 64, 64), jnp.float32)
    compiled = jax.jit(_digest).lower(array).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.01 * 4 * 64**3
