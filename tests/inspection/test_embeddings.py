"""Token embeddings in a plane: PCA by another route, t-SNE by what it keeps."""

import builtins
from typing import Any

import numpy as np
import pytest

from lm.errors import UserError
from lm.inspection.embeddings import token_points
from tests.generation.tiny import language_model

FIRST = 12  # the first letter's id


def test_pca_is_the_svd_of_the_centred_table() -> None:
    model = language_model('llama')
    found = token_points(model, 'cab a', tokens=20)
    letters = [FIRST + i for i in (2, 0, 1, 26)]
    assert found.ids_N[:5].tolist() == [1, *letters] and len(found.ids_N) == 20
    assert found.of_text_N.tolist() == [True] * 5 + [False] * 15
    # No special id, and nothing of the vocabulary's padding.
    assert {*found.ids_N[5:]} <= {*range(FIRST, 40)} | {3}
    assert found.tokens[1:4] == ('c', 'a', 'b')
    table_VD = np.asarray(model.params['embedding/tokens'], np.float64)[:40]
    centred_VD = table_VD - table_VD.mean(0)
    _, sizes_D, axes_DD = np.linalg.svd(centred_VD, full_matrices=False)
    want_N2 = centred_VD[found.ids_N] @ axes_DD[:2].T
    want_N2 *= np.sign((want_N2 * found.points_N2).sum(0))
    np.testing.assert_allclose(found.points_N2, want_N2, atol=1e-4)
    shares = sizes_D[:2] ** 2 / (sizes_D**2).sum()
    np.testing.assert_allclose(found.explained, shares, rtol=1e-4)


def test_tsne_keeps_two_groups_apart_and_hears_of_the_seed() -> None:
    model = language_model('llama')
    table_VD = np.array(model.params['embedding/tokens'])
    table_VD[:, 0] = np.where(np.arange(len(table_VD)) % 2, 9, -9)
    model.params['embedding/tokens'] = table_VD
    found = [token_points(model, 'ab', method='tsne', tokens=30, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0].points_N2, found[1].points_N2)
    assert not np.array_equal(found[0].points_N2, found[2].points_N2)
    points_N2, odd_N = found[0].points_N2, found[0].ids_N % 2 == 1
    distances_NN = np.linalg.norm(points_N2[:, None] - points_N2[None], axis=-1)
    np.fill_diagonal(distances_NN, np.inf)
    assert (odd_N[distances_NN.argmin(1)] == odd_N).all()
    assert found[0].explained is None


def test_a_mistake_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model('llama')
    for tokens, line in ((9, 'tokens=9: must be at least 10'), (10, 'the text alone has 12')):
        with pytest.raises(UserError, match=line):
            token_points(model, 'abcdefghijk', tokens=tokens)
    known = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith('sklearn'):
            raise ImportError(name)
        return known(name, *more)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(UserError, match=r"scikit-learn; pip install 'lm-lab\[inspect\]'"):
        token_points(model, 'a')
