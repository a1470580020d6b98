"""Recurrent models against PyTorch's cells, and what they alone promise."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from lm.batch import Batch
from lm.errors import UserError
from lm.hub.export import write_model
from lm.named_configs import load_config
from lm.objectives._objective import weighted_cross_entropy
from lm.planning.plan import plan
from lm.shapes import Params
from tests.models.tiny import VOCABULARY, packed_batch, perturbed, side, tiny

TOLERANCE = 2e-5
LENGTH = 18

recurrent = pytest.mark.parametrize('name', ['gru', 'lstm'])


class Peer(torch.nn.Module):
    """Embedding, `torch.nn.LSTM` or `GRU`, output matrix, in float64."""

    def __init__(self, name: str, params: Params):
        super().__init__()
        given = {path: torch.tensor(np.array(x, np.float64)) for path, x in params.items()}
        layers, width, gates, _ = given['decoder/layers/input'].shape
        kind = {'lstm': torch.nn.LSTM, 'gru': torch.nn.GRU}[name]
        self.cells = kind(width, width, layers, batch_first=True).double()
        self.table = torch.nn.Parameter(given['embedding/tokens'])
        self.output = torch.nn.Parameter(given['head/output'])
        for layer in range(layers):
            at = {
                path.rpartition('/')[2]: x[layer] for path, x in given.items() if 'layers' in path
            }
            hidden = torch.zeros(gates, width, dtype=torch.float64)
            if name == 'gru':
                hidden[2] = at['reset_bias']
            values = {
                'weight_ih': at['input'].permute(1, 2, 0).reshape(-1, width),
                'weight_hh': at['recurrent'].permute(1, 2, 0).reshape(-1, width),
                'bias_ih': at['bias'].reshape(-1),
                'bias_hh': hidden.reshape(-1),
            }
            for path, value in values.items():
                getattr(self.cells, f'{path}_l{layer}').data = value.clone()

    def forward(self, tokens_BT: np.ndarray) -> torch.Tensor:
        hidden_BTD, _ = self.cells(self.table[torch.tensor(tokens_BT).long()])
        return hidden_BTD @ self.output

    def gradients(self, name: str) -> dict[str, np.ndarray]:
        """By our paths, of all layers."""

        def of(path: str) -> np.ndarray:
            count = self.cells.num_layers
            return np.stack(
                [getattr(self.cells, f'{path}_l{i}').grad.numpy() for i in range(count)]
            )

        width = self.cells.hidden_size
        found = {
            'embedding/tokens': self.table.grad.numpy(),
            'head/output': self.output.grad.numpy(),
            'decoder/layers/bias': of('bias_ih').reshape(2, -1, width),
        }
        for ours, path in {'input': 'weight_ih', 'recurrent': 'weight_hh'}.items():
            stacked = of(path).reshape(2, -1, width, width)
            found[f'decoder/layers/{ours}'] = stacked.transpose(0, 3, 1, 2)
        if name == 'gru':
            found['decoder/layers/reset_bias'] = of('bias_hh').reshape(2, -1, width)[:, 2]
        return found


@recurrent
def test_logits_and_gradients_are_those_of_pytorch(name: str) -> None:
    model = tiny(name, vocab_multiple=1)
    params = perturbed(model)
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=(3, LENGTH))
    targets = np.random.default_rng(1).integers(VOCABULARY, size=(3, LENGTH))
    rows = [side([LENGTH], LENGTH, row) for row in tokens]
    inputs = [np.concatenate(x) for x in zip(*rows, strict=True)]
    batch = Batch(*inputs, targets=targets.astype(np.int32), loss_weights=np.ones((3, LENGTH)))

    def loss(params: Params) -> Any:
        logits_BTV = model.apply(params, batch)
        return weighted_cross_entropy(logits_BTV, batch).loss, logits_BTV

    (_, got), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    peer = Peer(name, params)
    want = peer(tokens)
    torch.nn.functional.cross_entropy(
        want.flatten(0, 1), torch.tensor(targets).flatten(), reduction='sum'
    ).backward()
    assert np.abs(got - want.detach().numpy()).max() <= TOLERANCE * want.abs().max().item()
    expected = peer.gradients(name)
    assert {*expected} == {*gradients}
    for path, gradient in expected.items():
        assert np.abs(gradients[path] - gradient).max() <= TOLERANCE * np.abs(gradient).max(), path


@recurrent
def test_token_by_token_equals_the_whole_row(name: str) -> None:
    for policy in ('fp32', 'bf16_mixed'):
        model = tiny(name, policy)
        params = perturbed(model)
        tokens = np.random.default_rng(0).integers(VOCABULARY, size=(2, LENGTH)).astype(np.int32)
        places = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), tokens.shape)
        whole = jax.jit(model.apply)(params, Batch(tokens, np.ones_like(tokens), places))
        first = Batch(tokens[:, :1], np.ones((2, 1), np.int32), places[:, :1])
        logits_BV, state = model.read(params, first, LENGTH)
        advance = jax.jit(model.advance)
        for t in range(LENGTH):
            if t:
                logits_BV, state = advance(params, jnp.asarray(tokens[:, t]), state)
            want = whole[:, t, :VOCABULARY]
            tolerance = {'fp32': 1e-5, 'bf16_mixed': 0.02}[policy] * np.abs(want).max()
            np.testing.assert_allclose(logits_BV[:, :VOCABULARY], want, atol=tolerance)
        assert all(x.dtype == jnp.float32 for x in state.states)


@recurrent
def test_a_tied_head_is_the_embedding(name: str) -> None:
    model = tiny(name, options={'tie_embeddings': True})
    assert 'head/output' not in model.shapes
    params, batch = perturbed(model), packed_batch(model)
    hidden = jax.jit(model.hidden)(params, batch)
    want = hidden @ params['embedding/tokens'][:VOCABULARY].T
    got = jax.jit(model.apply)(params, batch)[..., :VOCABULARY]
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_a_forget_gate_begins_open() -> None:
    bias = jax.jit(tiny('lstm').init)(jax.random.key(0))['decoder/layers/bias']
    assert bias.shape == (2, 4, 16) and (bias[:, 1] == 1).all()
    assert (bias[:, [0, 2, 3]] == 0).all()


@recurrent
@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'model.d_ff': 48}, 'model.d_ff=48: model.name={} has no feed-forward layer; set it to'),
        ({'model.head_dim': 8}, 'model.head_dim=8: model.name={} has no heads'),
        ({'model.num_kv_heads': 2}, 'model.num_kv_heads=2: model.name={} has no heads'),
        ({'objective.name': 'prefix_lm'}, 'objective.name=prefix_lm: its prefix is seen both ways'),
        ({'objective.name': 'ul2'}, 'set objective.name=clm'),
        ({'mesh.tensor': 2}, 'mesh.tensor=2: model.name={} is recurrent and not split over tensor'),
        ({'mesh.seq': -1}, 'mesh.seq=-1: model.name={} is recurrent'),
    ],
)
def test_what_it_has_not_is_refused(name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config('quickstart', **{'model.name': name, 'model.d_ff': None, **changes})
    assert words.format(name) in str(caught.value) and '\n' not in str(caught.value)


def test_a_plan_refuses_the_same_axes() -> None:
    changes = {'model.name': 'lstm', 'model.d_ff': None, 'model.vocab_size': 512}
    config = load_config('quickstart', **changes)
    with pytest.raises(UserError, match='mesh.tensor=2: model.name=lstm is recurrent'):
        plan(config, devices=2, tensor=2)
    found = plan(config, devices=2, device_kind='h100').strategy('zero2')
    assert found.time is not None and found.memory.total > 0


@recurrent
def test_it_has_no_hugging_face_folder(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    with pytest.raises(UserError, match=f'model.name={name}: has no converter; there are bart'):
        write_model(tmp_path, model.config, perturbed(model), None, 10**9)
    assert not [*tmp_path.iterdir()]
