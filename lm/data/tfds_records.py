"""The examples of a TFDS dataset as records of plain texts, numbers and lists."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lm.data.sources import Document, Part, Reading
from lm.data.tfds_source import TfdsSource
from lm.errors import UserError


class TfdsRecords(TfdsSource):
    """A dataset of TFDS whose documents are records, as JSON.

    A class label is its name, also within a sequence; a dict of sequences stays one, as SQuAD's
    answers are. Labels of a split without any (-1) are left out.
    """

    def __init__(self, source: str):
        """
        Raises:
          UserError: no such dataset, or none that can be had.
        """
        super().__init__(source, text_field='', unit='file')

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        features = self._builder.info.features
        for split in self._training_splits if part == 'train' else ['validation']:
            records = self._builder.as_data_source(split=split)
            for number in range(len(records)):
                try:
                    record = _plain(features, records[number])
                except UnicodeDecodeError as error:
                    raise UserError(
                        f'data.source={self._source}: {split}/{number} holds bytes that are not '
                        f'UTF-8 ({error.reason})'
                    ) from None
                text = json.dumps(record, ensure_ascii=False)
                reading.documents += 1
                reading.text_bytes += len(text.encode())
                yield Document(f'{split}/{number}', text)

    def _check_field(self, builder: Any) -> None:
        """Which fields are needed an objective says."""


def _plain(feature: Any, value: Any) -> Any:
    """A value of a feature in JSON's kinds."""
    inner = getattr(feature, 'feature', None)
    if isinstance(value, dict):
        # A sequence of dicts comes as a dict of sequences.
        return {key: _plain((inner or feature)[key], value[key]) for key in value}
    if inner is not None:
        return [_plain(inner, item) for item in value]
    if hasattr(feature, 'int2str'):
        if np.ndim(value):
            return [feature.int2str(int(i)) for i in value]
        return feature.int2str(int(value)) if int(value) >= 0 else None
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray):
        return [_plain(feature, item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
