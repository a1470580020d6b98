"""Where a model's token embeddings lie: two dimensions of them, by PCA or t-SNE."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from lm.config import require
from lm.errors import UserError
from lm.generation.language_model import LanguageModel
from lm.inspection.text import read_text, spelled
from lm.precision.quantization import dequantized

Method: TypeAlias = Literal['pca', 'tsne']
FEWEST = 10
"""Tokens that are shown at least."""
PERPLEXITY = 30.0
"""Of t-SNE: about how many neighbours a token keeps; fewer where there are few tokens."""
_TABLE = 'embedding/tokens'


@dataclass(frozen=True)
class TokenPoints:
    """Tokens in a plane.

    Attributes:
      method: `pca` or `tsne`.
      ids_N: those of the text first, in its order; then others.
      tokens: their pieces.
      of_text_N: which come in the text.
      points_N2: fp32.
      explained: the shares of the table's variance along the two axes, of PCA; None of t-SNE, whose
        axes and distances between far groups mean nothing.
    """

    method: Method
    ids_N: Int[np.ndarray, ' N']
    tokens: tuple[str, ...]
    of_text_N: Bool[np.ndarray, ' N']
    points_N2: Float[np.ndarray, 'N 2']
    explained: tuple[float, float] | None


def token_points(
    model: LanguageModel, text: str, *, method: Method = 'pca', tokens: int = 400, seed: int = 0
) -> TokenPoints:
    """The embeddings of a text's tokens among those of common words, in a plane.

    Others than the text's are the first whole words of the vocabulary, which is ordered by how
    frequent they are (of WordPiece, BPE and unigram vocabularies alike), then what else comes
    first. PCA (Pearson 1901) is that of the table's rows, padding left out. t-SNE (van der Maaten
    and Hinton 2008) is by the cosine, for lengths tell how frequent a token is.

    Args:
      model: from `lm.load`.
      text: what it reads, as of `attention_maps`.
      method: how the plane is found.
      tokens: N at most.
      seed: of t-SNE's beginning; what two seeds show differently means nothing.

    Raises:
      UserError: as `read_text` of `lm.inspection.text`; fewer tokens than 10 or than are in the
        text, or scikit-learn is not installed.
    """
    decomposition = require_sklearn()
    require(tokens >= FEWEST, f'tokens={tokens}: must be at least {FEWEST}')
    read = read_text(model, text)
    own = read.given if read.begun.source is None else read.begun.source
    of_text = list(dict.fromkeys(map(int, own)))
    require(
        len(of_text) <= tokens,
        f'tokens={tokens}: the text alone has {len(of_text)} of them; give as many or more',
    )
    table_VD = _table(model)
    ids_N = np.array([*of_text, *_others(model, len(table_VD), {*of_text})][:tokens], np.int32)
    explained = None
    if method == 'pca':
        pca = decomposition['PCA'](2, svd_solver='covariance_eigh').fit(table_VD)
        points_N2 = pca.transform(table_VD[ids_N])
        first, second = map(float, pca.explained_variance_ratio_)
        explained = (first, second)
    else:
        tsne = decomposition['TSNE'](
            2,
            perplexity=min(PERPLEXITY, (len(ids_N) - 1) / 3),
            metric='cosine',
            init='random',
            random_state=seed,
        )
        points_N2 = tsne.fit_transform(table_VD[ids_N])
    return TokenPoints(
        method,
        ids_N,
        spelled(model, ids_N),
        np.arange(len(ids_N)) < len(of_text),
        points_N2.astype(np.float32),
        explained,
    )


def require_sklearn() -> dict[str, Any]:
    """What is used of scikit-learn, by name.

    Raises:
      UserError: it is not installed.
    """
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
    except ImportError:
        raise UserError("embeddings: need scikit-learn; pip install 'lm-lab[inspect]'") from None
    return {'PCA': PCA, 'TSNE': TSNE}


def _table(model: LanguageModel) -> Float[np.ndarray, 'V D']:
    """The embedding of every id that the model and its tokenizer have, fp32."""
    value: Any = model.params[_TABLE]
    table = dequantized(value, jnp.float32) if hasattr(value, 'qvalue') else value
    size = min(model.tokenizer.vocabulary.size, model.config.model.tokens)
    return np.asarray(table, np.float32)[:size]


def _others(model: LanguageModel, size: int, known: set[int]) -> list[int]:
    """The other ids by kind, each kind in the vocabulary's order."""
    vocabulary = model.tokenizer.vocabulary
    left = np.array([i for i in range(size) if i not in known | vocabulary.special_ids], np.int32)
    kinds = [
        _kind(piece, begins_word=bool(begins))
        for piece, begins in zip(spelled(model, left), vocabulary.begins_word(left), strict=True)
    ]
    others: list[int] = left[np.argsort(kinds, kind='stable')].tolist()
    return others


def _kind(piece: str, *, begins_word: bool) -> int:
    """0 of whole words, 1 of other text, 2 of what stands for something: `<0x0A>`, `[unused7]`."""
    word = piece.strip('\u2581 ')
    if begins_word and len(word) > 1 and word.isalpha():
        return 0
    return 2 if len(word) > 2 and word[0] + word[-1] in ('<>', '[]') else 1
