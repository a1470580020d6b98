"""Recurrent encoder-decoders against PyTorch's cells, and what they alone promise."""

import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from lm.batch import Batch
from lm.errors import UserError
from lm.hub.export import write_model
from lm.models.uses import head_width
from lm.named_configs import load_config
from lm.objectives._objective import weighted_cross_entropy
from lm.planning.parameters import model_shape
from lm.planning.plan import plan
from lm.shapes import Params
from tests.models.tiny import VOCABULARY, packed_batch, perturbed, side, tiny

TOLERANCE = 1e-5
ROWS, LENGTH, DECODER_LENGTH = 3, 12, 9
NAMES = ('lstm_seq2seq', 'gru_seq2seq')

both = pytest.mark.parametrize('name', NAMES)


class Peer(torch.nn.Module):
    """Bidirectional `torch.nn.LSTM` or `GRU`, another a layer, and attention; in float64."""

    def __init__(self, name: str, params: Params):
        super().__init__()
        self.given = {
            path: torch.tensor(np.array(x, np.float64), requires_grad=True)
            for path, x in params.items()
        }
        self.kind = {'lstm_seq2seq': torch.nn.LSTM, 'gru_seq2seq': torch.nn.GRU}[name]

    def cell(self, path: str, layer: int) -> list[torch.Tensor]:
        """What `torch` calls weight_ih, weight_hh, bias_ih and bias_hh, as one flat list."""
        read, kept, bias = (
            self.given[f'{path}/{name}'][layer] for name in ('input', 'recurrent', 'bias')
        )
        width, gates, _ = kept.shape
        hidden = torch.zeros(gates, width, dtype=torch.float64)
        if self.kind is torch.nn.GRU:
            hidden = torch.cat([hidden[:2], self.given[f'{path}/reset_bias'][layer][None]])
        return [
            read.permute(1, 2, 0).reshape(-1, read.shape[0]),
            kept.permute(1, 2, 0).reshape(-1, width),
            bias.reshape(-1),
            hidden.reshape(-1),
        ]

    def run(self, x_BTD: torch.Tensor, *cells: list[torch.Tensor]) -> torch.Tensor:
        """One layer, both ways if there are two cells."""
        width = cells[0][1].shape[1]
        module = self.kind(
            x_BTD.shape[-1], width, batch_first=True, bidirectional=len(cells) == 2
        ).double()
        names = [name for name, _ in module.named_parameters()]
        weights = dict(zip(names, itertools.chain(*cells), strict=True))
        return torch.func.functional_call(module, weights, (x_BTD,))[0]

    def forward(self, tokens_BS: np.ndarray, tokens_BT: np.ndarray) -> torch.Tensor:
        table = self.given['embedding/tokens']
        m_BSD, x_BTD = (table[torch.tensor(ids).long()] for ids in (tokens_BS, tokens_BT))
        layers, width = self.given['decoder/layers/cross_attention/query'].shape[:2]
        for layer in range(layers):
            ways = (self.cell(f'encoder/layers/{w}', layer) for w in ('forward', 'backward'))
            m_BSD = self.run(m_BSD, *ways)
        for layer in range(layers):
            h_BTD = self.run(x_BTD, self.cell('decoder/layers/cell', layer))
            query, output, state = (
                self.given[f'decoder/layers/cross_attention/{name}'][layer]
                for name in ('query', 'output', 'state')
            )
            scores_BTS = (h_BTD @ query) @ m_BSD.transpose(1, 2) / width**0.5
            x_BTD = torch.tanh(scores_BTS.softmax(-1) @ m_BSD @ output + h_BTD @ state)
        return x_BTD @ self.given['head/output']


def rows_of(length: int, seed: int) -> list[np.ndarray]:
    """Tokens, segment ids and positions of whole rows."""
    tokens = np.random.default_rng(seed).integers(VOCABULARY, size=(ROWS, length))
    rows = [side([length], length, row) for row in tokens]
    return [np.concatenate(x) for x in zip(*rows, strict=True)]


@both
def test_logits_and_gradients_are_those_of_pytorch(name: str) -> None:
    model = tiny(name, vocab_multiple=1)
    params = perturbed(model)
    fields = [*rows_of(LENGTH, 0), *rows_of(DECODER_LENGTH, 1)]
    targets = rows_of(DECODER_LENGTH, 2)[0]
    batch = Batch(*fields, targets=targets, loss_weights=np.ones(targets.shape))

    def loss(params: Params) -> Any:
        logits_BTV = model.apply(params, batch)
        return weighted_cross_entropy(logits_BTV, batch).loss, logits_BTV

    (_, got), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    peer = Peer(name, params)
    want = peer(fields[0], fields[3])
    torch.nn.functional.cross_entropy(
        want.flatten(0, 1), torch.tensor(targets).long().flatten(), reduction='sum'
    ).backward()
    assert np.abs(got - want.detach().numpy()).max() <= TOLERANCE * want.abs().max().item()
    assert {*gradients} == {*peer.given}
    for path, tensor in peer.given.items():
        assert tensor.grad is not None
        gradient = tensor.grad.numpy()
        assert np.abs(gradients[path] - gradient).max() <= TOLERANCE * np.abs(gradient).max(), path


@both
def test_the_encoder_reads_a_segment_from_its_end_whatever_is_behind(name: str) -> None:
    model = tiny(name)
    params, batch = perturbed(model), packed_batch(model)
    # Positions that go on counting in the padding do not tell where a segment ends.
    counting = np.where(batch.segment_ids == 0, 7, batch.positions)
    encoded = jax.jit(model.encoded)
    want = encoded(params, batch)
    got = encoded(params, batch._replace(positions=counting, tokens=np.where(
        batch.segment_ids == 0, 1, batch.tokens)))  # fmt: skip
    text = np.asarray(batch.segment_ids)[0] > 0
    np.testing.assert_array_equal(got[0, text], want[0, text])


@both
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'model.d_model': 127, 'model.num_heads': 1}, 'model.d_model=127: each of two directions'),
        ({'model.d_ff': 48}, 'model.d_ff=48: model.name={} has no feed-forward layer'),
        ({'mesh.tensor': 2}, 'mesh.tensor=2: model.name={} is recurrent'),
        ({'mesh.seq': 2}, 'mesh.seq=2: model.name={} is recurrent'),
    ],
)
def test_what_it_has_not_is_refused(name: str, changes: dict[str, Any], words: str) -> None:
    given = {'model.name': name, 'model.d_ff': None, 'objective.name': 'span_corruption'}
    with pytest.raises(UserError) as caught:
        config = load_config('quickstart', **{**given, **changes})
        model_shape(config.model)
    assert words.format(name) in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('objective', ['span_corruption', 'denoising', 'prefix_lm', 'ul2'])
def test_it_is_planned_under_every_objective_of_two_sides(objective: str) -> None:
    changes = {'model.name': 'lstm_seq2seq', 'model.d_ff': None, 'objective.name': objective}
    config = load_config('quickstart', **changes)
    found = plan(config, devices=2, device_kind='h100').strategy('zero2')
    assert found.time is not None and found.memory.total > 0
    # One head as wide as the model, whatever `num_heads` says.
    assert head_width(model_shape(config.model).spec, config.model) == config.model.d_model


@both
def test_it_has_no_hugging_face_folder(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    with pytest.raises(UserError, match=f'model.name={name}: has no converter; there are bart'):
        write_model(tmp_path, model.config, perturbed(model), None, 10**9)
    assert not [*tmp_path.iterdir()]
