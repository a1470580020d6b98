"""How much text the first rows of a held-out side say: what bits per byte of a part count."""

import numpy as np

from lm.data.store import Store
from lm.data.tokenizer import Tokenizer

_REPLACEMENT = '\N{REPLACEMENT CHARACTER}'


def said_bytes(store: Store, tokenizer: Tokenizer, places: int) -> int | None:
    """UTF-8 bytes of the text in the first `places` places, as rows of a causal objective have it.

    Held-out rows take the documents in the store's order, each as bos, text and eos: so a part is a
    beginning, of whole documents and of the first tokens of one more. These tokens are decoded and
    the bytes counted. A character that the last row ends in the middle of is not counted.

    Args:
      store: of the held-out side.
      tokenizer: what made its tokens.
      places: tokens of the rows, bos and eos counted, the overlap of rows once.

    Returns:
      None where the tokenizer does not give texts back as they were: only all of such a text has a
      size that is known, that of the text itself.
    """
    if not tokenizer.lossless:
        return None
    [filled] = np.nonzero(store.lengths)
    begins = np.cumsum(store.lengths[filled] + 2) - store.lengths[filled] - 1
    count = 0
    for document, begin in zip(filled.tolist(), begins.tolist(), strict=True):
        if begin >= places:
            break
        stop = min(places - begin, int(store.lengths[document]))
        text = tokenizer.decode(store.read(document, 0, stop))
        whole = stop == store.lengths[document]
        count += len((text if whole else text.rstrip(_REPLACEMENT)).encode())
    return count
