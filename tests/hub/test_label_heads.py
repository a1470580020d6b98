"""Heads for labels against transformers' classes: logits, and back again."""

import json

import numpy as np
import pytest

import lm

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

SMALL = {
    'vocab_size': 40, 'hidden_size': 16, 'num_hidden_layers': 2, 'num_attention_heads': 2,
    'intermediate_size': 32, 'max_position_embeddings': 24,
}  # fmt: skip
LABELS = {0: 'up', 1: 'down', 2: 'level'}
CASES = [
    (architecture, head)
    for architecture in ('Bert', 'Roberta')
    for head in ('SequenceClassification', 'TokenClassification', 'QuestionAnswering')
]


def saved(folder, architecture, head):
    """A random model of theirs, every parameter of it moved, in `folder`."""
    labels = {'num_labels': 2} if head == 'QuestionAnswering' else {'id2label': LABELS}
    config = getattr(transformers, f'{architecture}Config')(**SMALL, **labels)
    torch.manual_seed(0)
    peer = getattr(transformers, f'{architecture}For{head}')(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    peer.save_pretrained(folder)
    return peer


def theirs(peer, tokens_BT):
    with torch.no_grad():
        out = peer(torch.tensor(tokens_BT))
    if hasattr(out, 'start_logits'):
        return torch.stack([out.start_logits, out.end_logits], -1).numpy()
    return out.logits.numpy()


@pytest.mark.parametrize(('architecture', 'head'), CASES)
def test_logits_equal(tmp_path, architecture, head):
    peer = saved(tmp_path / 'theirs', architecture, head)
    tokens_BT = np.random.default_rng(0).integers(5, 40, (3, 12))
    model = lm.load(tmp_path / 'theirs')
    ours = np.asarray(model.logits(tokens_BT))
    expected = theirs(peer, tokens_BT)
    if head == 'SequenceClassification':
        ours = ours[:, 0]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)
    if head != 'QuestionAnswering':
        assert model.config.objective.options.labels == ('up', 'down', 'level')


def test_written_again(tmp_path):
    from lm.hub.export import write_model

    peer = saved(tmp_path / 'theirs', 'Bert', 'SequenceClassification')
    model = lm.load(tmp_path / 'theirs')
    folder = tmp_path / 'ours'
    folder.mkdir()
    write_model(folder, model.config.model, model.params, None, 10**9, ('up', 'down', 'level'))
    assert json.loads((folder / 'config.json').read_text())['id2label']['2'] == 'level'
    again = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokens_BT = np.random.default_rng(1).integers(5, 40, (2, 9))
    np.testing.assert_allclose(theirs(again, tokens_BT), theirs(peer, tokens_BT), atol=1e-6)


def test_second_token_types(tmp_path):
    """Of a pair the second text has type 1, as theirs."""
    import jax

    from lm.batch import Batch

    peer = saved(tmp_path / 'theirs', 'Bert', 'SequenceClassification')
    model = lm.load(tmp_path / 'theirs')
    tokens_BT = np.random.default_rng(2).integers(5, 40, (2, 8)).astype(np.int32)
    types_BT = np.repeat([[0, 0, 0, 1, 1, 1, 1, 1]], 2, axis=0).astype(np.int32)
    places_BT = np.repeat(np.arange(8, dtype=np.int32)[None], 2, axis=0)
    batch = Batch(tokens_BT, np.ones_like(tokens_BT), places_BT, token_types=types_BT)
    ours = np.asarray(jax.jit(model.functional.apply)(model.params, batch))[:, 0]
    with torch.no_grad():
        out = peer(torch.tensor(tokens_BT).long(), token_type_ids=torch.tensor(types_BT).long())
    np.testing.assert_allclose(ours, out.logits.numpy(), rtol=0, atol=2e-5)
