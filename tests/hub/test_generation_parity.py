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
from lm.training.load import load_foreign
from tests.hub import peers
from tests.hub.peers import torch

NAMES = ('gpt2', 'bloom', 'gpt_neox', 'llama', 'llama_3_1', 'mistral', 'qwen3', 't5', 'bart')
TWO_SIDED = ('t5', 'bart')
LENGTHS = (9, 2, 6)
NEW, END, START = 12, 5, 2


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


def theirs(name: str, model: Any, rows: list[np.ndarray], **how: Any) -> np.ndarray:
    """What `generate` adds to each row; behind an end all is the end."""
    tokens, mask = padded(rows, left=name not in TWO_SIDED)
    out = model.generate(
        torch.tensor(tokens),
        attention_mask=torch.tensor(mask),
        generation_config=peers.transformers.GenerationConfig(
            max_new_tokens=NEW, do_sample=False, eos_token_id=END, pad_token_id=END,
            decoder_start_token_id=START, forced_eos_token_id=None, early_stopping=False, **how,
        ),
    ).numpy()  # fmt: skip
    given = 1 if name in TWO_SIDED else tokens.shape[1]
    added = np.full((len(rows), NEW), END)
    added[:, : out.shape[1] - given] = out[:, given:]
    return added


def ours(name: str, rows: list[np.ndarray]) -> dict[str, Any]:
    """The arguments of `decode` and `beam_search` of the same prompts."""
    how: dict[str, Any] = {'max_new_tokens': NEW, 'window': 48, 'forbidden': [], 'ends': [END]}
    if name not in TWO_SIDED:
        return how | {'given': rows}
    tokens, mask = padded(rows, left=False)
    places = np.arange(tokens.shape[1]) * mask
    source = Batch(*(x.astype(np.int32) for x in (tokens, mask, places)))
    return how | {'given': [np.array([START], np.int32)] * len(rows), 'source': source}


@pytest.mark.parametrize('name', NAMES)
def test_the_same_tokens(name: str, tmp_path: Path) -> None:
    model = peers.peer(name, seed=3, noise=0.2)
    loaded = load_foreign(peers.saved(model, tmp_path))
    ended = 0
    for seed in range(3):
        rows = prompts(seed)
        keys = jax.random.split(jax.random.key(0), len(rows))
        got = decode(
            loaded.functional, loaded.params, sampling=Sampling(0.0), keys_B=keys,
            **ours(name, rows),
        )  # fmt: skip
        np.testing.assert_array_equal(got.tokens_BN, theirs(name, model, rows))
        for beams, penalty in ((3, 1.0), (4, 0.0), (2, 2.0)):
            found = beam_search(
                loaded.functional, loaded.params, num_beams=beams, length_penalty=penalty,
                **ours(name, rows),
            )  # fmt: skip
            want = theirs(name, model, rows, num_beams=beams, length_penalty=penalty)
            np.testing.assert_array_equal(found.tokens_BKN[:, 0], want)
            assert (np.diff(found.scores_BK, axis=1) <= 0).all()
            ended += int((want == END).any(axis=1).sum())
    assert ended > 0, 'no beam came to an end before its room did: nothing of that was seen'
