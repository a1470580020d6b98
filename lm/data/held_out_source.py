"""Two sources as one: what is trained on, and what is held out."""

import hashlib
from collections.abc import Callable, Iterator

from lm.data.sources import Document, Part, Reading, Source
from lm.errors import naming


class HeldOutSource:
    """A source with another one as its validation part; what it has of its own is not read."""

    has_validation = True

    def __init__(self, source: Source, open_held_out: Callable[[], Source]):
        """
        Args:
          source: to train on.
          open_held_out: opens the other one.

        Raises:
          UserError: there is no such text, with the field that names it.
        """
        self._source = source
        with naming({'data.source': 'data.validation_source'}):
            held_out = self._held_out = open_held_out()
        self.facts = {**source.facts, 'validation_source': held_out.facts['source']}

    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of both."""
        both = f'{self._source.fingerprint()}\n{self._held_out.fingerprint()}'
        return hashlib.sha256(both.encode()).hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`."""
        if part == 'train':
            yield from self._source.documents(reading)
            return
        with naming({'data.source': 'data.validation_source'}):
            yield from self._held_out.documents(reading)
