"""The first documents of a dataset of the Hugging Face hub, streamed once and kept."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm import processes
from lm.config import DataConfig
from lm.data.cache import cache_root, unwritable
from lm.data.hub_stream import HubStream, StreamName, stream_name
from lm.data.saved_stream import SavedStream
from lm.data.sources import Document, Part, Reading, cut_documents
from lm.errors import UserError


class HfSource:
    """The first `data.stream_documents` texts of one split, which is divided by our rule.

    They are kept in the cache with the stream's position (`lm/data/saved_stream.py`): a reading
    that was cut short goes on from there, as does one that wants more. Where enough are kept,
    neither the hub nor `datasets` is asked.
    """

    has_validation = False

    def __init__(self, data: DataConfig):
        """
        Raises:
          UserError: no such dataset, none that can be reached, no text in it, or a full disk.
        """
        name = stream_name(data.source)
        asked = data.stream_documents
        self._unit = data.documents
        self._saved = SavedStream(_folder(cache_root(data), name, data.text_field))

        def open_stream(state: dict[str, Any] | None) -> HubStream:
            stream = HubStream(name, data.text_field, state)
            kept = self._saved.position.documents
            words = f'documents {kept + 1} to {asked}' if kept else f'the first {asked} documents'
            processes.tell(f'lm: reading {words} of {data.source}')
            return stream

        try:
            self._saved.read_on(asked, open_stream)
        except OSError as error:
            raise unwritable(data, error) from None
        except UserError as error:
            kept = self._saved.position.documents
            if not kept:
                raise
            raise UserError(
                f'{error}; {kept} documents are kept, the same command goes on after them'
            ) from None
        position = self._saved.position
        if position.documents == 0:
            raise UserError(f'data.source={data.source}: empty; give a dataset with documents')
        self._documents = min(asked, position.documents)
        whole = position.ended and asked >= position.documents
        if whole and asked > position.documents:
            processes.tell(
                f'lm: {data.source} ends after {position.documents} documents, fewer than '
                f'data.stream_documents={asked}; all of them are used'
            )
        self._split = position.state['split']
        self.facts = {
            'source': data.source,
            'stream': f'{"all" if whole else "the first"} {self._documents} documents',
            'stream_split': self._split,
        }
        if name.folder is None:
            self.facts['revision'] = position.state['revision']

    def fingerprint(self) -> str:
        """SHA-256 over the split's name and the texts."""
        return hashlib.sha256(
            f'{self._split}\0{self._saved.sha256(self._documents)}'.encode()
        ).hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        for number, text in enumerate(self._saved.texts(self._documents)):
            lines = io.StringIO(text, newline='\n')
            yield from cut_documents(f'{self._split}/{number}', lines, self._unit, reading)


def _folder(root: Path, name: StreamName, text_field: str) -> Path:
    """Of what is kept of a stream. One from a folder whose files changed is another stream."""
    files = []
    if name.folder is not None:
        files = [
            (path.relative_to(name.folder).as_posix(), stat.st_size, stat.st_mtime_ns)
            for path in sorted(name.folder.rglob('*'))
            if path.is_file() and (stat := path.stat())
        ]
    place = str(name.folder or name.dataset)
    key = json.dumps([place, name.config, name.split, text_field, files])
    return root / 'streams' / hashlib.sha256(key.encode()).hexdigest()[:32]
