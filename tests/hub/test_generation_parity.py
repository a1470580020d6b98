"""Greedy decoding and beam search choose the very tokens that `transformers` chooses, of prompts of
unequal length at once.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lm.batch import Batch
from lm.generation.beams import beam_search
from lm.generation.decode import decode
from lm.generation.sampling import Sampling
from lm.hub.export import write_model
from lm.hub.llama2c import open_file
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training.load import load_foreign
from tests.data.corpora import corpus
from tests.hub import peers
from tests.hub.peers import torch

NAMES = ('gpt2', 'bloom', 'gpt_neox', 'llama', 'llama_3_1', 'mistral', 'qwen3', 't5', 'bart')
TWO_SIDED = ('t5', 'bart')
LENGTHS = (9, 2, 6)
NEW, NEVER, START = 12, 1, 2


def prompts(seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(6, peers.VOCABULARY, n).astype(np.int32) for n in LENGTHS]


def padded(rows: list[np.ndarray], *, left: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows with padding on one side, and where they are no padding."""
    width = max(map(len, rows))
    tokens, mask = np.full((2, len(rows), width), peers.PAD, np.int64)
    for i, row in enumerate(rows):
        at = slice(width - len(row), None) if left else slice(len(row))
        tokens[i, at], mask[i, at] = row, 1
    return tokens, mask


def theirs(name: str, model: Any, rows: list[np.ndarray], end: int, **how: Any) -> np.ndarray:
    """What `generate` adds to each row; behind an end all is the end."""
    tokens, mask = padded(rows, left=name not in TWO_SIDED)
    out = model.generate(
        torch.tensor(tokens),
        attention_mask=torch.tensor(mask),
        generation_config=peers.transformers.GenerationConfig(
            max_new_tokens=NEW, do_sample=False, eos_token_id=end, pad_token_id=end,
            decoder_start_token_id=START, forced_eos_token_id=None, early_stopping=False, **how,
        ),
    ).numpy()  # fmt: skip
    given = 1 if name in TWO_SIDED else tokens.shape[1]
    added = np.full((len(rows), NEW), end)
    added[:, : out.shape[1] - given] = out[:, given:]
    return added


def ours(name: str, rows: list[np.ndarray], end: int) -> dict[str, Any]:
    """The arguments of `decode` and `beam_search` of the same prompts."""
    how: dict[str, Any] = {'max_new_tokens': NEW, 'window': 48, 'forbidden': [], 'ends': [end]}
    if name not in TWO_SIDED:
        return how | {'given': rows}
    tokens, mask = padded(rows, left=False)
    places = np.arange(tokens.shape[1]) * mask
    source = Batch(*(x.astype(np.int32) for x in (tokens, mask, places)))
    return how | {'given': [np.array([START], np.int32)] * len(rows), 'source': source}


@pytest.mark.parametrize('name', NAMES)
def test_the_same_tokens(name: str, tmp_path: Path) -> None:
    changes = {'forced_eos_token_id': None} if name == 'bart' else {}
    model = peers.peer(name, seed=3, noise=0.2, **changes)
    loaded = load_foreign(peers.saved(model, tmp_path))
    rows = prompts(0)
    # What greedy decoding says fifth of the first prompt ends a text: so some end, some do not.
    end = int(theirs(name, model, rows, NEVER)[0, 4])
    want = theirs(name, model, rows, end)
    assert (want == end).any()
    got = decode(
        loaded.functional, loaded.params, sampling=Sampling(0.0),
        keys_B=jax.random.split(jax.random.key(0), len(rows)), **ours(name, rows, end),
    )  # fmt: skip
    np.testing.assert_array_equal(got.tokens_BN, want)
    for beams, penalty in ((3, 1.0), (4, 0.0), (2, 2.0)):
        found = beam_search(
            loaded.functional, loaded.params, num_beams=beams, length_penalty=penalty,
            **ours(name, rows, end),
        )  # fmt: skip
        want = theirs(name, model, rows, end, num_beams=beams, length_penalty=penalty)
        np.testing.assert_array_equal(found.tokens_BKN[:, 0], want)
        assert (np.diff(found.scores_BK, axis=1) <= 0).all()


def test_stories260k_tells_the_same_story(tmp_path: Path) -> None:
    """A trained model, as far as its context reaches: its logits are close together at times."""
    weights = open_file(corpus('checkpoints/stories260K.bin'))
    model, params = functional(weights.config, POLICIES['fp32']), weights.params()
    write_model(tmp_path, weights.config, params, None, shard_bytes=10**9)
    peer = peers.transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    # bos, 'Once upon a time' and 'Lily' as tok512.bin has them.
    rows = [np.array(row, np.int32) for row in ([1, 403, 407, 261, 378], [1, 317], [1])]
    given = torch.tensor(np.array([[1] * (5 - len(row)) + row.tolist() for row in rows]))
    mask = torch.tensor(np.array([[0] * (5 - len(row)) + [1] * len(row) for row in rows]))
    how = {'max_new_tokens': 200, 'window': 512, 'forbidden': [], 'ends': [2]}

    def told(**search: Any) -> np.ndarray:
        asked = peers.transformers.GenerationConfig(
            max_new_tokens=200, do_sample=False, eos_token_id=2, pad_token_id=2, **search
        )
        return peer.generate(given, attention_mask=mask, generation_config=asked).numpy()[:, 5:]

    greedy = decode(
        model, params, rows, sampling=Sampling(0.0), keys_B=jax.random.split(jax.random.key(0), 3),
        **how,
    )  # fmt: skip
    np.testing.assert_array_equal(greedy.tokens_BN, told())
    found = beam_search(model, params, rows, num_beams=4, **how)
    want = told(num_beams=4, early_stopping=False)
    np.testing.assert_array_equal(found.tokens_BKN[:, 0, : want.shape[1]], want)
