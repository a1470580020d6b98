"""Documents of a TFDS dataset, read at random and without TensorFlow once it is array_record."""

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lm.data.sources import Document, Part, Reading, Unit, cut_documents, require_text
from lm.errors import UserError, did_you_mean

_HASH_BLOCK = 1 << 20

# TFDS retries a download for many minutes and waits for a silent server for ever, so it prepares in
# a process of its own, where both can be bounded; once bytes flow there is no limit.
_PREPARE = """
import json, os, socket, sys
os.environ['NO_GCE_CHECK'] = 'true'
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader
from tensorflow_datasets.core.utils import gcs_utils

downloader.MAX_RETRIES = 2
gcs_utils._is_gcs_disabled = True
socket.setdefaulttimeout(20)
request = requests.Session.request

def bounded(self, *args, **kwargs):
    kwargs['timeout'] = kwargs.get('timeout') or (5, 20)
    return request(self, *args, **kwargs)

requests.Session.request = bounded
try:
    tfds.builder(sys.argv[1], file_format='array_record').download_and_prepare()
    problem = ''
except BaseException as error:
    problem = f'{type(error).__name__}: {error}'
print(json.dumps({'problem': problem}))
"""


class TfdsSource:
    """A dataset of TFDS by name, prepared as array_record where it is not yet.

    Its `validation` split is held out if it has one beside `train`; else `train` is split by our
    rule, and without a `train` split all there are. A `test` split is left alone.
    """

    def __init__(self, source: str, *, text_field: str, unit: Unit):
        """
        Raises:
          UserError: no such dataset, none that can be had, or no such text field in it.
        """
        self._source = source
        self._name = source.removeprefix('tfds:')
        self._text_field = text_field
        self._unit = unit
        builder = self._found()
        if not _is_prepared(builder):
            self._prepare(builder)
            builder = self._found()
        self._builder = builder
        self._check(builder)
        splits = sorted(builder.info.splits)
        self.has_validation = 'train' in splits and 'validation' in splits
        self._training_splits = ['train'] if 'train' in splits else splits
        self.facts = {'source': source, 'version': str(builder.version)}

    def fingerprint(self) -> str:
        """SHA-256 over the names and bytes of the prepared dataset's files."""
        digest = hashlib.sha256()
        for path in sorted(Path(self._builder.data_dir).iterdir()):
            if path.is_file():
                digest.update(path.name.encode() + b'\0')
                with path.open('rb') as file:
                    while block := file.read(_HASH_BLOCK):
                        digest.update(block)
        return digest.hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        for split in self._training_splits if part == 'train' else ['validation']:
            records = self._builder.as_data_source(split=split)
            for number in range(len(records)):
                place = f'{split}/{number}'
                text = self._text(place, records[number][self._text_field])
                lines = io.StringIO(text, newline='\n')
                yield from cut_documents(place, lines, self._unit, reading)

    def _text(self, place: str, value: Any) -> str:
        if not isinstance(value, bytes | str):
            raise UserError(
                f'data.text_field={self._text_field}: {self._source} holds '
                f'{type(value).__name__} there, not text'
            )
        try:
            return value.decode() if isinstance(value, bytes) else require_text(place, value)
        except UnicodeDecodeError:
            raise UserError(f'data.source={self._source}: {place} is not UTF-8') from None

    def _found(self) -> Any:
        """The dataset's builder. Raises UserError if TFDS knows no such name."""
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core.registered import DatasetNotFoundError

        try:
            return tfds.builder(self._name, file_format='array_record', try_gcs=False)
        except DatasetNotFoundError:
            raise self._unknown() from None
        except (ValueError, AssertionError) as error:
            raise self._unbuildable(error) from None

    def _unknown(self) -> UserError:
        """Some builders cannot even be found without TensorFlow; they are known by their files."""
        name = self._name.partition('/')[0].partition(':')[0]
        known = _shipped_names()
        if name in known and find_spec('tensorflow') is None:
            return self._needs_tensorflow()
        close = did_you_mean(name, sorted(known))
        hint = close if 'did you mean' in close else '; see tensorflow.org/datasets/catalog'
        return UserError(f'data.source={self._source}: TFDS has no dataset {name}{hint}')

    def _unbuildable(self, error: Exception) -> UserError:
        import tensorflow_datasets as tfds

        name, _, config = self._name.partition('/')
        configs = sorted(tfds.builder_cls(name).builder_configs)
        if config and config not in configs:
            hint = did_you_mean(config, configs[:20])
            return UserError(f'data.source={self._source}: {name} has no config {config}{hint}')
        return UserError(f'data.source={self._source}: {_first_line(error)}')

    def _needs_tensorflow(self) -> UserError:
        return UserError(
            f'data.source={self._source}: not prepared yet, and preparing it needs TensorFlow: '
            "pip install 'lm-lab[tfds]' (reading it afterwards does not)"
        )

    def _prepare(self, builder: Any) -> None:
        """Builds the dataset as array_record in TFDS's own folder."""
        if find_spec('tensorflow') is None:
            raise self._needs_tensorflow()
        print(f'lm: preparing {self._source} in {builder.data_dir}', file=sys.stderr)
        result = subprocess.run(
            [sys.executable, '-c', _PREPARE, self._name], capture_output=True, text=True
        )
        try:
            problem = json.loads(result.stdout.splitlines()[-1])['problem']
        except (IndexError, ValueError):
            problem = _first_line(result.stderr.strip().rpartition('\n')[2])
        if problem:
            folder = Path(builder._data_dir_root) / 'downloads' / 'manual'
            raise UserError(
                f'data.source={self._source}: cannot be prepared ({_first_line(problem)}); '
                f'without a network put the files it downloads into {folder}'
            )

    def _check(self, builder: Any) -> None:
        """Raises UserError unless the dataset can be read at random and has the text field."""
        if builder.info.file_format.value != 'array_record':
            raise UserError(
                f'data.source={self._source}: prepared as {builder.info.file_format.value} in '
                f'{builder.data_dir}; set $TFDS_DATA_DIR to another folder to have it made as '
                'array_record'
            )
        self._check_field(builder)

    def _check_field(self, builder: Any) -> None:
        fields = list(builder.info.features)
        if self._text_field not in fields:
            raise UserError(
                f'data.text_field={self._text_field}: {self._source} has no such field '
                f'(fields: {", ".join(fields)})'
            )


def _is_prepared(builder: Any) -> bool:
    return bool(builder.info.splits) and Path(builder.data_dir).is_dir()


def _shipped_names() -> set[str]:
    """Every dataset that TFDS brings along, found by its files: nothing is imported."""
    import tensorflow_datasets as tfds

    root = Path(tfds.__file__).parent
    modules = {path.stem for path in root.glob('*/*.py')}
    folders = {path.parent.name for path in root.glob('*/*/*_dataset_builder.py')}
    return {
        name
        for name in modules | folders | set(tfds.core.registered.list_imported_builders())
        if not name.startswith('_') and not name.endswith('_test')
    }


def _first_line(problem: object) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:200] if lines else 'no reason given'
