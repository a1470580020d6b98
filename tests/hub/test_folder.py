"""What a Hugging Face folder may hold and may not: every mistake one line that names it."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm.errors import UserError
from lm.hub.folder import converters, open_folder
from tests.hub import peers
from tests.hub.peers import torch

safetensors_torch = pytest.importorskip('safetensors.torch', reason='comes with transformers')


@pytest.fixture(scope='module')
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A sound folder of each peer, made once; tests copy what they break."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = peers.saved(peers.peer(name), tmp_path_factory.mktemp(name))
        return made[name]

    return folder


@pytest.fixture
def changed(folders: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a folder with keys of its config and tensors changed; None takes one away."""

    def change(name: str, keys: dict[str, Any], tensors: dict[str, Any] | None = None) -> Path:
        source = folders(name)
        config = {**json.loads((source / 'config.json').read_text()), **keys}
        (tmp_path / 'config.json').write_text(json.dumps(config))
        held = safetensors_torch.load_file(source / 'model.safetensors')
        held.update(tensors or {})
        kept = {key: tensor for key, tensor in held.items() if tensor is not None}
        safetensors_torch.save_file(kept, tmp_path / 'model.safetensors')
        return tmp_path

    return change


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_folder(folder)
    assert '\n' not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ('name', 'keys', 'words'),
    [
        (
            'llama',
            {'model_type': 'falcon'},
            "model_type='falcon' is not supported, only bart, bert,",
        ),
        ('llama', {'model_type': None}, 'model_type is missing'),
        ('llama', {'hidden_act': 'relu'}, "hidden_act='relu' is not supported, only 'silu'"),
        ('llama', {'attention_bias': True}, 'attention_bias=True is not supported'),
        ('llama', {'mlp_bias': True}, 'mlp_bias=True is not supported'),
        ('llama', {'hidden_size': '32'}, "hidden_size='32' is not of type int"),
        ('llama', {'hidden_size': None}, 'hidden_size is missing'),
        ('llama', {'num_attention_heads': 5}, 'model.num_kv_heads=2: must divide'),
        (
            'llama',
            {'num_attention_heads': 0},
            'num_attention_heads=0 is not supported, only a size',
        ),
        ('llama', {'vocab_size': 2**31}, 'vocab_size=2147483648 is not supported, only a size'),
        ('llama', {'rms_norm_eps': 10**400}, 'rms_norm_eps=inf is not supported, only a positive'),
        ('llama', {'num_hidden_layers': 10**7}, 'holds 21 tensors, too few for 10000000 layers'),
        ('llama', {'use_mrope': True}, 'use_mrope=True is not supported'),
        ('llama', {'is_encoder_decoder': True}, 'is_encoder_decoder=True is not supported'),
        ('mistral', {'sliding_window': 0}, 'sliding_window=0 is not supported'),
        ('bert', {'hidden_dropout_prob': 1.0}, 'hidden_dropout_prob=1.0 is not supported'),
        ('roberta', {'pad_token_id': 48}, 'pad_token_id=48 is not supported, only an id from 0'),
        ('llama', {'quantization_config': {'bits': 4}}, "quantization_config={'bits': 4} is an op"),
        ('llama', {'mystery': 1}, 'mystery=1 is an option that this converter does not know'),
        (
            'llama',
            {'rope_parameters': {'rope_type': 'yarn', 'factor': 2.0}},
            "rope_parameters.rope_type='yarn' is not supported, only default, linear or llama3",
        ),
        (
            'llama',
            {'rope_parameters': None, 'rope_scaling': {'type': 'dynamic', 'factor': 2.0}},
            "rope_scaling.rope_type='dynamic' is not supported",
        ),
        (
            'llama',
            {'rope_parameters': {'rope_type': 'linear'}},
            'rope_parameters.factor is missing',
        ),
        (
            'llama',
            {'rope_parameters': {'rope_type': 'default', 'attention_factor': 2}},
            'rope_parameters.attention_factor=2 is an option',
        ),
        ('llama', {'rope_parameters': {'partial_rotary_factor': 0.5}}, 'partial_rotary_factor=0.5'),
        (
            'qwen2',
            {
                'use_sliding_window': True,
                'sliding_window': 4,
                'layer_types': ['full_attention', 'sliding_attention'],
            },
            "layer_types=['full_attention', 'sliding_attention'] is not supported",
        ),
        *(
            (
                'qwen2',
                {'use_sliding_window': True, 'sliding_window': 4, 'layer_types': types},
                f'layer_types={types} is not supported, only one kind of attention for',
            )
            for types in ([], [['a']], ['sliding_attention'])
        ),
        (
            'qwen2',
            {
                'use_sliding_window': True,
                'sliding_window': 4,
                'layer_types': None,
                'max_window_layers': 1,
            },
            'max_window_layers=1 is not supported',
        ),
        ('bert', {'hidden_act': 'gelu_new'}, "hidden_act='gelu_new' is not supported"),
        ('bert', {'type_vocab_size': 3}, 'type_vocab_size=3 is not supported, only 2'),
        ('bert', {'position_embedding_type': 'relative_key'}, 'only'),
        ('bert', {'is_decoder': True}, 'is_decoder=True is not supported'),
        ('modernbert', {'norm_bias': True}, 'norm_bias=True is not supported, only False'),
        ('modernbert', {'mlp_bias': True}, 'mlp_bias=True is not supported'),
        ('modernbert', {'decoder_bias': False}, 'decoder_bias=False is not supported'),
        ('modernbert', {'classifier_activation': 'silu'}, "classifier_activation='silu' is not"),
        ('modernbert', {'local_attention': 1}, 'model.options.local_reach=0: must be positive'),
        (
            'modernbert',
            {'layer_types': ['sliding_attention', 'full_attention'] * 2 + ['sliding_attention']},
            'is not supported, only full_attention in every so many of 5 layers, from the first',
        ),
        (
            'modernbert',
            {'rope_parameters': {'sliding_attention': {'rope_type': 'linear', 'factor': 2.0}}},
            "rope_parameters.sliding_attention.rope_type='linear' is not supported",
        ),
        ('bloom', {'n_inner': 100}, 'n_inner=100 is not supported, only 144'),
        (
            'bloom',
            {'apply_residual_connection_post_layernorm': True},
            'apply_residual_connection_post_layernorm=True is not supported',
        ),
        ('gpt_neox', {'attention_bias': False}, 'attention_bias=False is not supported'),
        ('gpt_neox', {'hidden_act': 'relu'}, "hidden_act='relu' is not supported"),
        (
            'gpt_neox',
            {'rope_parameters': None, 'rotary_pct': 0.2},
            'rotary_pct=0.2 is not supported, only a share that turns pairs of the 8 entries',
        ),
        (
            'gpt_neox',
            {'rope_parameters': {'rope_type': 'yarn', 'factor': 2.0}},
            "rope_parameters.rope_type='yarn' is not supported",
        ),
        ('gpt2', {'activation_function': 'relu'}, "activation_function='relu' is not"),
        ('gpt2', {'scale_attn_by_inverse_layer_idx': True}, 'scale_attn_by_inverse_layer_idx'),
        ('gpt2', {'scale_attn_weights': False}, 'scale_attn_weights=False'),
        ('gpt2', {'add_cross_attention': True}, 'add_cross_attention=True'),
        ('bart', {'decoder_start_token_id': 97}, 'model.options.decoder_start=97: is no id of'),
        ('t5', {'decoder_start_token_id': 1}, 'decoder_start_token_id=1 is not supported, only 0'),
        ('bart', {'scale_embedding': True}, 'scale_embedding=True is not supported'),
        ('bart', {'decoder_layers': 3}, 'decoder_layers=3 is not supported, only 2'),
        ('bart', {'normalize_before': True}, 'normalize_before=True is not supported'),
        ('t5', {'feed_forward_proj': 'gated-silu'}, "feed_forward_proj='gated-silu' is not"),
        ('t5', {'feed_forward_proj': 'relu'}, "dense_act_fn='gelu_new' is not supported"),
        ('t5', {'num_decoder_layers': 3}, 'num_decoder_layers=3 is not supported, only 2'),
    ],
)
def test_options_that_are_not_supported(
    name: str, keys: dict[str, Any], words: str, changed: Callable[..., Path]
) -> None:
    folder = changed(name, keys)
    message = refusal(folder)
    assert words in message
    assert str(folder) in message


Q = 'model.layers.1.self_attn.q_proj.weight'


@pytest.mark.parametrize(
    ('name', 'keys', 'tensors', 'words'),
    [
        ('llama', {}, {Q: None}, f'lacks {Q}'),
        ('llama', {}, {'lm_head.weight': None}, 'lacks lm_head.weight'),
        ('llama', {}, {Q: torch.zeros(32, 16)}, f'{Q} is [32, 16], by config.json [32, 32]'),
        ('llama', {'intermediate_size': 60}, {}, 'gate_proj.weight is [56, 32], by config.json'),
        ('llama', {'vocab_size': 96}, {}, 'model.embed_tokens.weight is [97, 32]'),
        ('llama', {'num_hidden_layers': 1}, {}, 'and 6 more unexpected'),
        ('llama', {'num_hidden_layers': 3}, {}, 'lacks model.layers.2.'),
        (
            'llama',
            {},
            {'embed_tokens.weight': torch.zeros(97, 32)},
            'holds model.embed_tokens.weight twice, once as',
        ),
        ('llama', {}, {'model.extra.weight': torch.zeros(3)}, 'model.extra.weight unexpected'),
        ('llama', {}, {Q: torch.zeros(32, 32, dtype=torch.float64)}, f'{Q} is of dtype F64'),
        ('llama', {'tie_word_embeddings': True}, {}, 'lm_head.weight differs from model.embed'),
        ('gpt2', {}, {'lm_head.weight': torch.zeros(97, 32)}, 'lm_head.weight differs from'),
        (
            'bert',
            {},
            {'cls.predictions.decoder.bias': torch.ones(97)},
            'cls.predictions.decoder.bias differs from cls.predictions.bias',
        ),
        ('bert', {}, {'classifier.weight': torch.zeros(2, 32)}, 'classifier.weight unexpected'),
        (
            'bart',
            {},
            {'final_logits_bias': torch.ones(1, 97)},
            'final_logits_bias is not zero, and bart here has none',
        ),
        (
            'bart',
            {},
            {'final_logits_bias': torch.zeros(1, 96)},
            'final_logits_bias is [1, 96], by config.json [1, 97]',
        ),
        ('t5_1_0', {}, {'lm_head.weight': torch.zeros(97, 32)}, 'lm_head.weight differs from'),
        (
            't5',
            {},
            {'encoder.embed_tokens.weight': torch.zeros(97, 32)},
            'encoder.embed_tokens.weight differs from shared.weight',
        ),
    ],
)
def test_tensors_that_do_not_fit(
    name: str,
    keys: dict[str, Any],
    tensors: dict[str, Any],
    words: str,
    changed: Callable[..., Path],
) -> None:
    folder = changed(name, keys, tensors)
    message = refusal(folder)
    assert words in message and str(folder) in message


def test_modernbert_by_the_keys_of_its_release(changed: Callable[..., Path]) -> None:
    keys = {
        'layer_types': None, 'global_attn_every_n_layers': 2, 'rope_parameters': None,
        'global_rope_theta': 80_000.0, 'local_rope_theta': 5000.0, 'layer_norm_eps': 1e-5,
        'position_embedding_type': 'absolute', 'reference_compile': None, 'local_attention': 8,
        'repad_logits_with_grad': False, 'gradient_checkpointing': False,
        'classifier_pooling': 'mean',
    }  # fmt: skip
    options = open_folder(changed('modernbert', keys)).config.options
    assert (options.global_every, options.local_reach) == (2, 4)
    assert (options.rope_theta, options.local_rope_theta) == (80_000.0, 5000.0)
    first = {'layer_types': ['full_attention', *['sliding_attention'] * 4]}
    assert open_folder(changed('modernbert', first)).config.options.global_every == 5


def test_modernbert_without_its_head(changed: Callable[..., Path]) -> None:
    head = ('head.dense.weight', 'head.norm.weight', 'decoder.bias')
    weights = open_folder(changed('modernbert', {}, dict.fromkeys(head)))
    assert not weights.config.options.head
    assert not any(path.startswith('head/') for path in weights.params())


def test_modernbert_base_has_the_parameters_of_the_release() -> None:
    from lm.named_configs import load_config
    from lm.planning.counts import count_parameters
    from lm.planning.parameters import model_shape

    with torch.device('meta'):
        peer = peers.model_class('modernbert')(peers.model_class('modernbert').config_class())
    total = sum(parameter.numel() for parameter in peer.parameters())
    assert count_parameters(model_shape(load_config('modernbert_base').model)).total == total


def test_bloom_by_the_keys_of_its_release(changed: Callable[..., Path]) -> None:
    keys = {
        'n_embed': 36, 'hidden_size': None, 'num_attention_heads': 6, 'n_head': None,
        'n_inner': None, 'seq_length': 1024, 'offset_alibi': 100, 'skip_bias_add': True,
        'skip_bias_add_qkv': False, 'masked_softmax_fusion': True, 'bias_dropout_fusion': True,
        'attention_softmax_in_fp32': True, 'unk_token_id': 0,
    }  # fmt: skip
    config = open_folder(changed('bloom', keys)).config
    assert (config.num_layers, config.d_model, config.num_heads) == (2, 36, 6)
    assert config.max_positions == 1024


def test_bart_by_the_keys_and_tensors_of_its_release(changed: Callable[..., Path]) -> None:
    keys = {
        'add_bias_logits': False, 'add_final_layer_norm': False, 'classif_dropout': 0.1,
        'normalize_before': False, 'normalize_embedding': True, 'num_hidden_layers': 2,
        'gradient_checkpointing': False, 'no_repeat_ngram_size': 3, 'early_stopping': True,
    }  # fmt: skip
    folder = changed('bart', keys, {'final_logits_bias': None})
    held = safetensors_torch.load_file(folder / 'model.safetensors')
    bare = {name.removeprefix('model.'): tensor for name, tensor in held.items()}
    safetensors_torch.save_file(bare, folder / 'model.safetensors')
    weights = open_folder(folder)
    table = weights.params()['decoder/learned_positions/table']
    assert weights.config.max_positions == 48 and table.shape == (50, 32)


def test_no_folder_and_no_config(tmp_path: Path) -> None:
    assert 'is no folder' in refusal(tmp_path / 'nowhere')
    assert 'config.json: cannot be read (No such file' in refusal(tmp_path)
    (tmp_path / 'config.json').write_text('{"model_type": ')
    assert 'config.json: is not JSON' in refusal(tmp_path)
    (tmp_path / 'config.json').write_text('[]')
    assert 'config.json: is not a JSON object' in refusal(tmp_path)
    (tmp_path / 'config.json').write_text('[' * 100_000)
    assert 'config.json: is not JSON' in refusal(tmp_path)


def test_weights_that_are_missing_or_pickled(changed: Callable[..., Path]) -> None:
    folder = changed('gpt2', {})
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')
    assert 'pytorch_model.bin but no model.safetensors: pickled' in refusal(folder)
    (folder / 'pytorch_model.bin').unlink()
    assert 'holds no model.safetensors' in refusal(folder)


@pytest.mark.parametrize('kept', [0, 5, 8, 100, -1])
def test_a_file_cut_short(kept: int, changed: Callable[..., Path]) -> None:
    folder = changed('gpt2', {})
    file = folder / 'model.safetensors'
    file.write_bytes(file.read_bytes()[:kept])
    message = refusal(folder)
    assert str(file) in message and 'is cut short' in message


@pytest.mark.parametrize(
    ('header', 'words'),
    [
        (b'{"a": ', 'its header is not that of a safetensors file'),
        (b'{"a": 3}', 'its header is not that of a safetensors file'),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', 'its header is not'),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}', 'does not begin where'),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', 'that no tensor owns'),
        (b'{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 8]}}', 'its header is not'),
    ],
)
def test_a_header_that_lies(header: bytes, words: str, changed: Callable[..., Path]) -> None:
    folder = changed('gpt2', {})
    file = folder / 'model.safetensors'
    file.write_bytes(struct.pack('<Q', len(header)) + header + bytes(8))
    assert words in refusal(folder)


def test_an_index_that_does_not_fit_its_files(tmp_path: Path) -> None:
    folder = peers.saved(peers.peer('gpt2'), tmp_path, max_shard_size='40KB')
    index = folder / 'model.safetensors.index.json'
    tree = json.loads(index.read_text())
    name, place = next(iter(tree['weight_map'].items()))
    index.write_text(json.dumps({'weight_map': {**tree['weight_map'], 'other': place}}))
    assert f'{place}: lacks other, which model.safetensors.index.json says' in refusal(folder)
    index.write_text(json.dumps({'weight_map': {**tree['weight_map'], name: 'gone.safetensors'}}))
    assert 'gone.safetensors: is missing' in refusal(folder)
    index.write_text(json.dumps({'weight_map': {name: 1}}))
    assert 'is no index with a weight_map' in refusal(folder)
    index.write_text('{}')
    assert 'is no index with a weight_map' in refusal(folder)


def test_what_bert_has_beyond_ours_is_told(
    changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    extra = {
        'bert.pooler.dense.weight': torch.zeros(32, 32),
        'bert.pooler.dense.bias': torch.zeros(32),
        'cls.seq_relationship.weight': torch.zeros(2, 32),
        'bert.embeddings.position_ids': torch.arange(48)[None],
    }
    weights = open_folder(changed('bert', {}, extra))
    told = capsys.readouterr().err
    assert 'left out bert.pooler.dense.bias, bert.pooler.dense.weight: the pooler' in told
    assert 'left out cls.seq_relationship.weight: the next-sentence head' in told
    assert 'position_ids' not in told
    assert weights.config.options.head


def test_names_of_old_files(changed: Callable[..., Path], folders: Callable[[str], Path]) -> None:
    held = safetensors_torch.load_file(folders('bert') / 'model.safetensors')
    old = {
        name.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
            'LayerNorm.bias', 'LayerNorm.beta'
        ): tensor
        for name, tensor in held.items()
    }
    gone = dict.fromkeys(set(held) - set(old))
    want = open_folder(folders('bert')).params()
    got = open_folder(changed('bert', {}, {**old, **gone})).params()
    assert all(np.array_equal(got[path], want[path]) for path in want)


def test_a_file_without_the_prefix_and_with_masks(
    changed: Callable[..., Path], folders: Callable[[str], Path]
) -> None:
    held = safetensors_torch.load_file(folders('gpt2') / 'model.safetensors')
    bare = {name.removeprefix('transformer.'): tensor for name, tensor in held.items()}
    masks = {f'h.{i}.attn.bias': torch.ones(1, 1, 48, 48) for i in range(2)}
    want = open_folder(folders('gpt2')).params()
    got = open_folder(changed('gpt2', {}, {**dict.fromkeys(held), **bare, **masks})).params()
    assert all(np.array_equal(got[path], want[path]) for path in want)


def test_a_t5_whose_head_is_tied(
    changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    # As recent versions of transformers write a T5 1.1 made from a config.
    keys = {'tie_word_embeddings': True, 'scale_decoder_outputs': False}
    params = open_folder(changed('t5', keys, {'lm_head.weight': None})).params()
    assert np.array_equal(params['head/output'].T, params['embedding/tokens'])
    assert 'lm_head.weight begins as a copy of shared.weight' in capsys.readouterr().err


def test_a_t5_1_0_by_the_keys_and_tensors_of_its_release(changed: Callable[..., Path]) -> None:
    # Its config says nothing of activation and head, and one tensor is never read.
    unsaid = dict.fromkeys((
        'feed_forward_proj', 'dense_act_fn', 'is_gated_act', 'tie_word_embeddings',
        'scale_decoder_outputs',
    ))  # fmt: skip
    unread = 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'
    weights = open_folder(changed('t5_1_0', unsaid, {unread: torch.ones(32, 4)}))
    assert weights.config.options.tie_embeddings and not weights.config.options.gated
    assert 'head/output' not in weights.params()


def test_old_and_new_words_for_the_rotation(changed: Callable[..., Path]) -> None:
    scaling = {
        'rope_type': 'llama3', 'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
        'original_max_position_embeddings': 64,
    }  # fmt: skip
    new = changed('llama', {'rope_parameters': {**scaling, 'rope_theta': 5e5}})
    wanted = open_folder(new).config
    old = changed('llama', {'rope_parameters': None, 'rope_theta': 5e5, 'rope_scaling': scaling})
    assert open_folder(old).config == wanted
    assert wanted.options.rope_theta == 5e5 and wanted.options.rope_original_positions == 64


def test_keys_that_real_folders_have(changed: Callable[..., Path]) -> None:
    qwen = {'use_mrope': False, 'rope_interleaved': False, 'is_encoder_decoder': False}
    assert open_folder(changed('qwen2', qwen)).config.options.qkv_bias
    pooler = {
        'directionality': 'bidi', 'pooler_fc_size': 768, 'pooler_num_attention_heads': 12,
        'pooler_num_fc_layers': 3, 'pooler_size_per_head': 128, 'pooler_type': 'first_token',
    }  # fmt: skip
    assert open_folder(changed('bert', pooler)).config.options.head


def test_mt5_whose_head_is_its_own(changed: Callable[..., Path]) -> None:
    # Newer versions of transformers write that it is tied, and hold both.
    keys = {'model_type': 'mt5', 'tie_word_embeddings': True, 'feed_forward_proj': None}
    params = open_folder(changed('t5', {**keys, 'scale_decoder_outputs': None})).params()
    assert not np.array_equal(params['head/output'].T, params['embedding/tokens'])


def test_mistral_with_as_many_groups_as_heads(changed: Callable[..., Path]) -> None:
    message = refusal(changed('mistral', {'num_key_value_heads': None}))
    assert 'k_proj.weight is [24, 32], by config.json [48, 32]' in message


def test_mistral_without_a_window(changed: Callable[..., Path]) -> None:
    assert open_folder(changed('mistral', {})).config.options.attention_window == 5
    full = changed('mistral', {'sliding_window': None})
    assert open_folder(full).config.options.attention_window is None


def test_every_architecture_has_a_converter_that_can_be_found() -> None:
    members = converters()
    assert {'bert', 'gpt2', 'llama', 't5'} <= set(members)
    types = [kind for member in members.values() for kind in member.MODEL_TYPES]
    assert len(types) == len(set(types))
