"""The prepared text as a TFDS dataset (array_record), which reads and writes without TensorFlow.

A record is a stretch of at most `RECORD_TOKENS` tokens of one document, so that reading a row of a
long document is cheap. Importing this module imports tensorflow_datasets.
"""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

RECORD_TOKENS = 2048


class TokenDocument(NamedTuple):
    """A document as ids: int32 [tokens], without bos or eos."""

    name: str
    tokens: np.ndarray


Documents = Callable[[], Iterable[TokenDocument]]

with tfds.core.registered.skip_registration():

    class PreparedText(tfds.core.GeneratorBasedBuilder):
        """Tokenised documents: `name`, where the stretch starts, its `tokens`; in order."""

        name = 'lm_text'
        VERSION = tfds.core.Version('1.0.0')

        def __init__(self, *, data_dir: Path, splits: dict[str, Documents]):
            self._documents = splits
            super().__init__(data_dir=data_dir, file_format='array_record')

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    'name': tfds.features.Text(),
                    'start': np.int64,
                    'tokens': tfds.features.Tensor(shape=(None,), dtype=np.int32),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {
                name: self._generate_examples(documents)
                for name, documents in self._documents.items()
            }

        def _generate_examples(self, documents: Documents) -> Iterator[tuple[int, dict[str, Any]]]:
            number = 0
            for document in documents():
                for start in range(0, max(1, len(document.tokens)), RECORD_TOKENS):
                    yield (
                        number,
                        {
                            'name': document.name,
                            'start': start,
                            'tokens': document.tokens[start : start + RECORD_TOKENS],
                        },
                    )
                    number += 1


def write(folder: Path, splits: dict[str, Documents]) -> None:
    """Writes the splits below `folder`, quietly.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    builder = PreparedText(data_dir=folder, splits=splits)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except RuntimeError as error:
        # The record writer's way to say that the disk is full.
        failed = re.search(r'(?:write|open)\(\) failed: ([^;]+)', str(error))
        if failed is None:
            raise
        raise OSError(failed[1]) from None
    finally:
        tfds.enable_progress_bar()
    # TFDS makes a folder for downloads in any case.
    shutil.rmtree(folder / 'downloads', ignore_errors=True)


def open_split(folder: Path, split: str) -> Any:
    """The records of a split written by `write`: a random-access source of dicts."""
    version = folder / PreparedText.name / str(PreparedText.VERSION)
    return tfds.builder_from_directory(version).as_data_source(split=split)
