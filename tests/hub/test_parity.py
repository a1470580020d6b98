"""Logits and gradients against `transformers`, every parameter perturbed.

`pytest tests/hub/test_parity.py -s` prints the figures of docs/LOG.md.
"""

import copy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.batch import Batch
from lm.hub.folder import open_folder
from lm.models.functional import Functional, functional
from lm.objectives._cross_entropy import cross_entropy
from lm.precision.policy import POLICIES
from lm.shapes import Params
from tests.hub import peers
from tests.hub.peers import torch
from tests.models.tiny import side

LOGITS = 2e-5
"""Of the largest logit."""
GRADIENTS = 1e-4
"""Of the largest entry of each tensor's gradient."""

every_peer = pytest.mark.parametrize('name', [*peers.SIZES])


def imported(model: Any, folder: Path) -> tuple[Functional, Params]:
    weights = open_folder(peers.saved(model, folder))
    return functional(weights.config, POLICIES['fp32']), weights.params()


def one_document_a_row(tokens: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    parts = [side([size], tokens.shape[1], row) for size, row in zip(lengths, tokens, strict=True)]
    return [np.concatenate(field) for field in zip(*parts, strict=True)]


def report(name: str, what: str, got: np.ndarray, want: np.ndarray) -> float:
    worst = float(np.abs(got - want).max() / np.abs(want).max())
    print(f'{name:14} {what:28} {worst:.1e}')
    return worst


@every_peer
def test_logits_of_padded_rows(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    model, params = imported(peer, tmp_path)
    tokens, lengths = peers.rows(1, 3, 40), [40, 23, 7]
    batch = Batch(*one_document_a_row(tokens, lengths))
    real = batch.segment_ids == 1
    decoder = None
    if model.family == 'encoder_decoder':
        decoder = peers.rows(2, 3, 25)
        batch = Batch(*batch[:3], *one_document_a_row(decoder, [25, 25, 25]))
    want = peers.logits(peer, tokens, np.asarray(real, np.int64), decoder)
    got = np.asarray(jax.jit(model.apply)(params, batch))
    shown = real if decoder is None else np.ones_like(decoder, bool)
    assert got.shape == want.shape
    assert report(name, 'logits, padded rows', got[shown], want[shown]) <= LOGITS


@every_peer
def test_logits_of_packed_rows_equal_documents_alone(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    model, params = imported(peer, tmp_path)
    lengths, decoder_lengths = [13, 8, 16], [9, 14, 5]
    tokens, decoder = peers.rows(1, 1, 40)[0], peers.rows(2, 1, 30)[0]
    batch = Batch(*side(lengths, 40, tokens))
    two_sided = model.family == 'encoder_decoder'
    if two_sided:
        batch = Batch(*batch[:3], *side(decoder_lengths, 30, decoder))
    got = np.asarray(jax.jit(model.apply)(params, batch))[0]
    want = np.zeros_like(got)
    start = decoder_start = 0
    for size, decoder_size in zip(lengths, decoder_lengths, strict=True):
        row = tokens[None, start : start + size]
        answer = decoder[None, decoder_start : decoder_start + decoder_size] if two_sided else None
        one = peers.logits(peer, row, np.ones_like(row), answer)[0]
        begin = decoder_start if two_sided else start
        want[begin : begin + len(one)] = one
        start, decoder_start = start + size, decoder_start + decoder_size
    shown = slice(decoder_start if two_sided else start)
    assert report(name, 'logits, packed rows', got[shown], want[shown]) <= LOGITS


def test_t5_beyond_its_largest_distance(tmp_path: Path) -> None:
    peer = peers.peer('t5')
    model, params = imported(peer, tmp_path)
    tokens, decoder = peers.rows(1, 1, 300), peers.rows(2, 1, 200)
    batch = Batch(*side([300], 300, tokens[0]), *side([200], 200, decoder[0]))
    got = np.asarray(jax.jit(model.apply)(params, batch))
    want = peers.logits(peer, tokens, np.ones_like(tokens), decoder)
    assert report('t5', 'logits, 300 -> 200 tokens', got, want) <= LOGITS


@every_peer
def test_gradients_of_the_loss(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    model, params = imported(peer, tmp_path / 'model')
    tokens, lengths = peers.rows(1, 3, 30), [30, 19, 11]
    batch = Batch(*one_document_a_row(tokens, lengths))
    mask, reads = np.asarray(batch.segment_ids, np.int64), tokens
    decoder = None
    if model.family == 'encoder_decoder':
        decoder = reads = peers.rows(2, 3, 20)
        batch = Batch(*batch[:3], *one_document_a_row(decoder, [20, 20, 20]))
    targets = np.random.default_rng(3).integers(peers.VOCABULARY, size=reads.shape)
    weights = np.random.default_rng(4).integers(0, 2, reads.shape)
    weights = weights * (mask if decoder is None else 1)

    want_loss = peers.loss(peer, tokens, mask, targets, weights, decoder)
    want_loss.backward()
    want = gradients_as_parameters(peer, tmp_path / 'gradients')

    def loss(params: Params) -> jax.Array:
        logits_BTV = model.apply(params, batch)
        nats_BT = cross_entropy(logits_BTV, jnp.asarray(targets, jnp.int32))
        return jnp.sum(nats_BT * weights) / weights.sum()

    got_loss, got = jax.jit(jax.value_and_grad(loss))(params)
    assert float(got_loss) == pytest.approx(want_loss.item(), rel=1e-6)
    assert set(got) == set(want)
    # A bias on all keys moves all scores of a query alike, if no rotation comes after it: its true
    # gradient is 0, and both sides' rounding is compared with the query's.
    rotated = model.config.options.positions == 'rope'
    apart = {path for path in got if path.endswith('key_bias') and not rotated}
    worst = {path: ratio(got[path], want[path]) for path in got if path not in apart}
    path = max(worst, key=lambda path: worst[path])
    print(f'{name:14} {"gradient of " + path:60} {worst[path]:.1e}')
    assert worst[path] <= GRADIENTS
    for path in apart:
        scale = np.abs(want[path.replace('key_bias', 'query_bias')]).max()
        assert max(np.abs(got[path]).max(), np.abs(want[path]).max()) <= 1e-5 * scale


def ratio(got: jax.Array, want: jax.Array) -> float:
    return float(np.abs(np.asarray(got) - want).max() / np.abs(want).max())


def gradients_as_parameters(peer: Any, folder: Path) -> Params:
    """The peer's gradients, converted as its parameters are."""
    held = copy.deepcopy(peer)
    with torch.no_grad():
        for (_, parameter), (_, given) in zip(
            held.named_parameters(), peer.named_parameters(), strict=True
        ):
            parameter.copy_(torch.zeros_like(given) if given.grad is None else given.grad)
    return imported(held, folder)[1]
