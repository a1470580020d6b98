"""llama2.c's format: the trained stories260K, and files that are not what they say."""

import struct
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from lm.errors import UserError
from lm.hub.llama2c import open_file
from lm.models.functional import functional
from lm.objectives._cross_entropy import cross_entropy
from lm.precision.policy import POLICIES
from tests.data.corpora import corpus


def written(path: Path, sizes: tuple[int, ...], floats: int) -> Path:
    values = np.arange(floats, dtype=np.float32) / 1000
    path.write_bytes(struct.pack('<7i', *sizes) + values.tobytes())
    return path


SIZES = (8, 12, 2, 2, 1, 16, 10)
"""dim, hidden, layers, heads, groups, vocabulary, positions."""
TABLES = 10 * 4
ALL = 16 * 8 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 3 * 96) + 8 + TABLES


@pytest.mark.parametrize('tied', [True, False])
def test_where_each_tensor_lies(tied: bool, tmp_path: Path) -> None:
    sizes = SIZES if tied else (*SIZES[:5], -16, 10)
    floats = ALL if tied else ALL + 16 * 8
    weights = open_file(written(tmp_path / 'a.bin', sizes, floats))
    assert weights.config.kv_heads == 1 and weights.config.max_positions == 10
    params = weights.params()
    rest = np.arange(floats, dtype=np.float32) / 1000

    def take(*shape: int) -> np.ndarray:
        nonlocal rest
        count = int(np.prod(shape))
        part, rest = rest[:count], rest[count:]
        return part.reshape(shape)

    def halves(rows_LXD: np.ndarray, heads: int) -> np.ndarray:
        """Rows (2i, 2i + 1) of a head as rows (i, i + K/2), then [L, D, heads, K]."""
        split = rows_LXD.reshape(2, heads, 2, 2, 8)
        return split.swapaxes(2, 3).reshape(2, heads, 4, 8).transpose(0, 3, 1, 2)

    layers = 'decoder/layers/'
    assert np.array_equal(params['embedding/tokens'], take(16, 8))
    assert np.array_equal(params[layers + 'attention_norm/scale'], take(2, 8))
    assert np.array_equal(params[layers + 'attention/query'], halves(take(2, 8, 8), 2))
    assert np.array_equal(params[layers + 'attention/key'], halves(take(2, 4, 8), 1))
    value = take(2, 4, 8).reshape(2, 1, 4, 8).transpose(0, 3, 1, 2)
    assert np.array_equal(params[layers + 'attention/value'], value)
    output = take(2, 8, 8).reshape(2, 8, 2, 4).transpose(0, 2, 3, 1)
    assert np.array_equal(params[layers + 'attention/output'], output)
    assert np.array_equal(params[layers + 'feed_forward_norm/scale'], take(2, 8))
    assert np.array_equal(params[layers + 'feed_forward/gate'], take(2, 12, 8).swapaxes(1, 2))
    assert np.array_equal(params[layers + 'feed_forward/down'], take(2, 8, 12).swapaxes(1, 2))
    assert np.array_equal(params[layers + 'feed_forward/up'], take(2, 12, 8).swapaxes(1, 2))
    assert np.array_equal(params['decoder/final_norm/scale'], take(8))
    take(TABLES)
    if not tied:
        assert np.array_equal(params['head/output'], take(16, 8).T)
    assert ('head/output' in params) is not tied and len(rest) == 0


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'', 'is cut short: no llama2.c checkpoint has 0 bytes'),
        (struct.pack('<7i', *SIZES), 'is cut short: 28 bytes, by its header'),
        (struct.pack('<7i', 0x616B3432, 1, *SIZES[2:]), 'is llama2.c version 1, only version 0'),
        (struct.pack('<7i', -3, *SIZES[1:]), 'is no llama2.c checkpoint'),
        (struct.pack('<7i', 9, *SIZES[1:]), 'is no llama2.c checkpoint'),
        (struct.pack('<7i', *SIZES) + bytes(4 * ALL + 4), 'is too long'),
        (struct.pack('<7i', 32, 64, 2**28, 4, 4, 97, 20), 'is cut short: 28 bytes, by its header'),
        (struct.pack('<7i', *SIZES[:5], -(2**31), 10), 'is no llama2.c checkpoint'),
    ],
)
def test_files_that_are_none(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'model.bin'
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_file(path)
    assert str(caught.value).startswith(f'{path}: ') and words in str(caught.value)


def test_stories260k_finds_its_own_text_likely() -> None:
    from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
    from lm.generation.language_model import LanguageModel
    from lm.hub.llama2c_tokenizer import sentencepiece_model
    from lm.training.load import config_of

    weights = open_file(corpus('checkpoints/stories260K.bin'))
    data = corpus('checkpoints/tok512.bin').read_bytes()
    tokenizer = SentencePieceTokenizer(sentencepiece_model(data, 512, 'tok512.bin'), 512)
    model = functional(weights.config, POLICIES['fp32'])
    loaded = LanguageModel(
        config_of(weights, Path('stories260K.bin')), model, weights.params(), tokenizer
    )
    text = (
        'Once upon a time, there was a little girl named Lily. She loved to play outside in the '
        'park. One day, she saw a big, red ball.'
    )
    tokens = np.append([1], tokenizer.encode(text)).astype(np.int32)[None]
    assert tokens.shape == (1, 45)
    logits_BTV = loaded.logits(tokens)
    nats = cross_entropy(logits_BTV[:, :-1], jnp.asarray(tokens[:, 1:]))
    assert float(nats.mean()) == pytest.approx(0.324100, abs=1e-5)
