"""Records as arrays of ids: tokenised together, then put into fields by a task's codec."""

import json
from collections.abc import Sequence

import numpy as np

from lm.data.sources import Document
from lm.data.tokenizer import Tokenizer
from lm.examples import Encoded, ExampleCodec


def encoded_examples(
    documents: Sequence[Document], codec: ExampleCodec, tokenizer: Tokenizer
) -> list[list[list[np.ndarray]]]:
    """The fields of each example of each record; all texts are tokenised at once.

    Args:
      documents: records as JSON.
      codec: knows what of them is read.
      tokenizer: makes the ids.

    Raises:
      UserError: a record that the task cannot read, by its name.
    """
    records = [json.loads(document.text) for document in documents]
    texts = [
        codec.texts(record, document.name)
        for record, document in zip(records, documents, strict=True)
    ]
    flat = [text for of_record in texts for text in of_record]
    if codec.aligns:
        found = iter([Encoded(*pair) for pair in tokenizer.encode_aligned(flat)])
    else:
        found = iter([Encoded(ids) for ids in tokenizer.encode_batch(flat)])
    return [
        codec.encode(record, document.name, [next(found) for _ in of_record])
        for record, document, of_record in zip(records, documents, texts, strict=True)
    ]
