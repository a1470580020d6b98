"""Records as arrays of ids: tokenised together, then put into fields by a task's codec."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lm.data.sources import Document
from lm.data.tokenizer import Tokenizer
from lm.examples import Encoded, ExampleCodec


class EncodedRecord(NamedTuple):
    """What became of a record.

    Attributes:
      examples: the fields of each, int32.
      tokens: ids of its texts, each text once, whatever examples have of them.
    """

    examples: list[list[np.ndarray]]
    tokens: int


def encoded_examples(
    documents: Sequence[Document], codec: ExampleCodec, tokenizer: Tokenizer
) -> list[EncodedRecord]:
    """The examples of each record; all texts are tokenised at once.

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
    told = []
    for record, document, of_record in zip(records, documents, texts, strict=True):
        encoded = [next(found) for _ in of_record]
        examples = codec.encode(record, document.name, encoded)
        told.append(EncodedRecord(examples, sum(len(text.ids) for text in encoded)))
    return told
