"""Which tokens a model looks at: the weights of each head for one text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lm.config import require
from lm.generation.language_model import LanguageModel
from lm.inspection.recording import Kind, recorded
from lm.inspection.text import Read, read_text, spelled


@dataclass(frozen=True)
class AttentionMap:
    """Softmax weights of one kind of attention; each row of them sums to 1.

    Attributes:
      kind: `encoder` or `decoder` (of its own tokens), or `cross`, the decoder's of the encoder's.
      layers: numbers of the layers, from 0.
      rows: the T tokens that look.
      columns: the S tokens that are looked at.
      weights_LHTS: fp32; 0 where a token is hidden.
    """

    kind: Kind
    layers: tuple[int, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    weights_LHTS: Float[np.ndarray, 'L H T S']


def attention_maps(
    model: LanguageModel, text: str, *, target: str = '', layers: Sequence[int] | None = None
) -> list[AttentionMap]:
    """Attention weights of a model that reads a text, of every layer and head.

    They come out of the model's own forward pass: the same tokens as `lm.generate` reads, special
    ones included, the same positions, biases, windows, prefix and kernel, without dropout.

        model = lm.load('runs/bert')
        [own] = lm.inspection.attention_maps(model, 'The teacher taught the student.')
        own.weights_LHTS[3, 0]  # layer 3, head 0, over own.rows and own.columns

    Args:
      model: from `lm.load`.
      text: what it reads; `<mask>` is a blank where the model fills blanks.
      target: what the decoder of an encoder-decoder has said already.
      layers: numbers of those that are wanted, from 0; None: all.

    Returns:
      A map of one side; of an encoder-decoder those of `encoder`, `decoder` and `cross`.

    Raises:
      UserError: as `read_text` of `lm.inspection.text`; a layer that the model does not have, or a
        model without attention.
    """
    return maps_of(model, read_text(model, text, target), layers)


def maps_of(
    model: LanguageModel, read: Read, layers: Sequence[int] | None = None
) -> list[AttentionMap]:
    """The same of a text that is ids already.

    Raises:
      UserError: a layer that the model does not have, or a model without attention.
    """
    count = model.config.model.num_layers
    kept = tuple(range(count) if layers is None else layers)
    for layer in kept:
        require(0 <= layer < count, f'layers={layer}: the model has layers 0 to {count - 1}')
    require(bool(kept), 'layers: none is given; give numbers of layers, or leave it out')
    given = spelled(model, read.given)
    source = given if read.begun.source is None else spelled(model, read.begun.source)
    found = recorded(model.functional, model.params, read.batch, kept)
    require(
        bool(found),
        f'model.name={model.config.model.name}: has no attention; give a transformer',
    )
    maps = []
    for kind, weights_BLHTS in found.items():
        rows = source if kind == 'encoder' else given
        columns = given if kind == 'decoder' else source
        weights_LHTS = np.asarray(weights_BLHTS)[0, :, :, : len(rows), : len(columns)]
        maps.append(AttentionMap(kind, kept, rows, columns, weights_LHTS))
    return maps
