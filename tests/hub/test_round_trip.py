"""Foreign folder -> ours -> foreign folder: the same tensors, loaded strictly by transformers."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from lm.batch import Batch
from lm.errors import UserError
from lm.hub.export import write_model
from lm.hub.folder import open_folder
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.vocabulary import Vocabulary
from tests.hub import peers
from tests.hub.peers import torch

safetensors_torch = pytest.importorskip('safetensors.torch', reason='comes with transformers')

every_peer = pytest.mark.parametrize('name', [*peers.SIZES])


def strictly_loaded(name: str, folder: Path, **how: object) -> object:
    """The model that transformers reads from a folder, which must hold all and nothing else."""
    model, found = peers.model_class(name).from_pretrained(
        folder, output_loading_info=True, attn_implementation='eager', **how
    )
    assert not any(found.values()), found
    return model.eval()


@every_peer
def test_the_same_logits_come_back(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    weights = open_folder(peers.saved(peer, tmp_path / 'theirs'))
    (tmp_path / 'ours').mkdir()
    write_model(tmp_path / 'ours', weights.config, weights.params(), None, shard_bytes=10**9)
    back = strictly_loaded(name, tmp_path / 'ours')
    before, after = peer.state_dict(), back.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    tokens = peers.rows(1, 2, 30)
    decoder = peers.rows(2, 2, 20) if peer.config.is_encoder_decoder else None
    want, got = (peers.logits(m, tokens, np.ones_like(tokens), decoder) for m in (peer, back))
    assert np.array_equal(got, want)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('name', ['gpt2', 't5'])
def test_dtypes_are_kept(name: str, dtype: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    weights = open_folder(peers.saved(peer, tmp_path / 'theirs', getattr(torch, dtype)))
    params = weights.params()
    assert {str(array.dtype) for array in params.values()} == {dtype}
    (tmp_path / 'ours').mkdir()
    write_model(tmp_path / 'ours', weights.config, params, None, shard_bytes=10**9)
    # The files, since transformers itself holds some of T5's halves in fp32.
    before, after = (
        safetensors_torch.load_file(tmp_path / folder / 'model.safetensors')
        for folder in ('theirs', 'ours')
    )
    assert set(before) == set(after)
    for key, tensor in before.items():
        assert after[key].dtype == tensor.dtype == getattr(torch, dtype)
        assert torch.equal(after[key], tensor)
    config = json.loads((tmp_path / 'ours' / 'config.json').read_text())
    assert config['torch_dtype'] == dtype


def test_layers_of_different_dtypes_take_one_that_holds_both(tmp_path: Path) -> None:
    peer = peers.peer('llama')
    peer.model.layers[1].to(torch.float16)
    params = open_folder(peers.saved(peer, tmp_path)).params()
    assert params['decoder/layers/feed_forward/up'].dtype == np.float32
    want = peer.model.layers[1].mlp.up_proj.weight.detach().float().numpy().T
    assert np.array_equal(params['decoder/layers/feed_forward/up'][1], want)


@every_peer
def test_files_in_shards(name: str, tmp_path: Path) -> None:
    peer = peers.peer(name)
    theirs = peers.saved(peer, tmp_path / 'theirs', max_shard_size='40KB')
    assert (theirs / 'model.safetensors.index.json').exists()
    weights = open_folder(theirs)
    ours = tmp_path / 'ours'
    ours.mkdir()
    write_model(ours, weights.config, weights.params(), None, shard_bytes=40_000)
    index = json.loads((ours / 'model.safetensors.index.json').read_text())
    assert len(set(index['weight_map'].values())) > 1
    # A tensor larger than the limit stands alone; all other files keep to it.
    for file in ours.glob('model-*.safetensors'):
        held = [n for n, place in index['weight_map'].items() if place == file.name]
        assert file.stat().st_size < 40_000 + 10_000 or len(held) == 1
    before, after = peer.state_dict(), strictly_loaded(name, ours).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.fixture
def mesh() -> Iterator[jax.sharding.Mesh]:
    yield jax.make_mesh((4, 2), ('fsdp', 'tensor'), (AxisType.Auto,) * 2)


def test_parameters_go_where_they_belong(mesh: jax.sharding.Mesh, tmp_path: Path) -> None:
    weights = open_folder(peers.saved(peers.peer('gpt2'), tmp_path))
    model = functional(weights.config, POLICIES['fp32'])
    axes = {'D': 'fsdp', 'F': 'tensor', 'H': 'tensor', 'G': 'tensor'}
    shardings = {
        path: NamedSharding(mesh, PartitionSpec(*(axes.get(letter) for letter in dims)))
        for path, dims in model.dims.items()
    }
    placed, alone = weights.params(shardings), weights.params()
    for path, array in placed.items():
        assert array.sharding == shardings[path]
        assert np.array_equal(array, alone[path])


def test_a_model_padded_here_is_written_without_padding(tmp_path: Path) -> None:
    from tests.models.tiny import VOCABULARY, perturbed, tiny

    model = tiny(
        'llama', num_heads=4, num_kv_heads=2
    )  # its embedding has rows beyond the vocabulary
    params = perturbed(model)
    assert params['embedding/tokens'].shape[0] > VOCABULARY
    write_model(tmp_path, model.config, params, None, shard_bytes=10**9)
    back = strictly_loaded('llama', tmp_path)
    assert back.model.embed_tokens.weight.shape[0] == VOCABULARY
    again = open_folder(tmp_path)
    cut = params['head/output'][:, :VOCABULARY]
    assert np.array_equal(again.params()['head/output'], cut)


def test_what_roberta_lacks_is_written_as_zeros(tmp_path: Path) -> None:
    from tests.models.tiny import VOCABULARY, perturbed, side, tiny

    model = tiny('roberta', num_kv_heads=6, d_model=24)
    params = perturbed(model)
    write_model(tmp_path, model.config, params, None, shard_bytes=10**9)
    back = strictly_loaded('roberta', tmp_path)
    assert not back.roberta.embeddings.token_type_embeddings.weight.any()
    tokens = np.arange(1, 13)
    got = jax.jit(model.apply)(params, Batch(*side([12], 12, tokens)))[0, :, :VOCABULARY]
    want = peers.logits(back, tokens[None], np.ones((1, 12), np.int64))[0]
    assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


def test_roberta_counts_its_positions_from_the_padding_id(tmp_path: Path) -> None:
    from tests.models.tiny import perturbed, tiny

    model = tiny('roberta', num_kv_heads=6, d_model=24, options={'position_offset': 2})
    vocabulary = Vocabulary(37, 0, 1, 2, 3, None, (), ())
    with pytest.raises(UserError, match='counted from pad_token_id=1, and the padding id of the'):
        write_model(tmp_path, model.config, perturbed(model), vocabulary, shard_bytes=10**9)
