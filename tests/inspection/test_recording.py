"""Recorded attention weights against `transformers`' own, with every parameter perturbed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm.batch import Batch
from lm.inspection.recording import KINDS, recorded
from tests.hub import peers
from tests.hub.peers import torch
from tests.hub.test_parity import imported, one_document_a_row

LENGTHS, DECODER_LENGTHS = [40, 23], [17, 17]


def theirs(peer: Any, family: str, batch: Batch) -> dict[str, np.ndarray]:
    """What a peer says of its attentions, [B, L, H, T, S] by kind."""
    names, sides = {family: 'attentions'}, {'input_ids': batch.tokens}
    if batch.decoder_tokens is not None:
        names = {kind: f'{kind}_attentions' for kind in KINDS}
        sides['decoder_input_ids'] = batch.decoder_tokens
    fields = {name: torch.tensor(ids, dtype=torch.long) for name, ids in sides.items()}
    mask = torch.tensor(batch.segment_ids, dtype=torch.long)
    with torch.no_grad():
        out = peer(**fields, attention_mask=mask, output_attentions=True)
    return {kind: torch.stack(getattr(out, name), dim=1).numpy() for kind, name in names.items()}


# Learned places, windows by layer and causal, grouped heads, biases by distance of two kinds, and
# two sides.
@pytest.mark.parametrize('name', ['modernbert', 'gpt2', 'mistral', 'bloom', 't5', 'bart'])
def test_weights_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    model, params = imported(peer, tmp_path)
    batch = Batch(*one_document_a_row(peers.rows(1, 2, 40), LENGTHS))
    lengths = dict.fromkeys(KINDS, (LENGTHS, LENGTHS))
    if model.family == 'encoder_decoder':
        batch = Batch(*batch[:3], *one_document_a_row(peers.rows(2, 2, 17), DECODER_LENGTHS))
        lengths |= {'decoder': (DECODER_LENGTHS,) * 2, 'cross': (DECODER_LENGTHS, LENGTHS)}
    got, want = recorded(model, params, batch), theirs(peer, model.family, batch)
    assert list(got) == list(want)
    for kind, weights_BLHTS in got.items():
        assert weights_BLHTS.shape == want[kind].shape
        for i, (rows, columns) in enumerate(zip(*lengths[kind], strict=True)):
            shown = (i, slice(None), slice(None), slice(rows), slice(columns))
            ours_LHTS, theirs_LHTS = np.asarray(weights_BLHTS)[shown], want[kind][shown]
            np.testing.assert_allclose(ours_LHTS, theirs_LHTS, atol=1e-5, err_msg=kind)
            np.testing.assert_allclose(ours_LHTS.sum(-1), 1, atol=1e-5)
            # All of a row's weight is on tokens: none is on padding.
            assert not np.asarray(weights_BLHTS)[i, :, :, :rows, columns:].any()
