"""A dataset of the Hugging Face hub, or of a folder in its layout, as a stream of texts.

Nothing is downloaded whole: `datasets` opens one file after the other where it lies.
"""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from lm.data.sources import require_text
from lm.errors import UserError, did_you_mean
from lm.fields import require

_MOST_NAMES = 20  # that an error lists


class StreamName(NamedTuple):
    """What `hf:NAME[:CONFIG[:SPLIT]]` names; a config or split that is not given is empty."""

    source: str
    dataset: str
    config: str
    split: str

    @property
    def folder(self) -> Path | None:
        """The dataset's folder if it lies on this machine."""
        path = Path(self.dataset).expanduser()
        return path.resolve() if path.is_dir() else None


def stream_name(source: str) -> StreamName:
    """`data.source` in its parts. Raises UserError where it has too many or no name."""
    parts = source.removeprefix('hf:').split(':')
    require(
        bool(parts[0]) and len(parts) <= 3,
        f'data.source={source}: must be hf:NAME, hf:NAME:CONFIG or hf:NAME:CONFIG:SPLIT (an empty '
        'CONFIG is the default one)',
    )
    dataset, config, split = [*parts, '', ''][:3]
    return StreamName(source, dataset, config, split)


class HubStream:
    """One split of a dataset, from its start or from where a state was taken.

    A dataset of the hub goes on at the revision that it began with.
    """

    def __init__(self, name: StreamName, text_field: str, state: dict[str, Any] | None):
        """
        Raises:
          UserError: `datasets` is missing or another version than that of the state, or there is
            no such dataset, config or split, or none that can be reached.
        """
        if find_spec('datasets') is None:
            raise UserError(
                f"data.source={name.source}: needs the datasets package; pip install 'lm-lab[hf]'"
            )
        import datasets

        # They tell of every try in several lines; what comes of it is told in one.
        for library in ('datasets', 'huggingface_hub'):
            logging.getLogger(library).setLevel(logging.CRITICAL)
        self._name = name
        self._text_field = text_field
        self._version = datasets.__version__
        if state is not None and state['datasets'] != self._version:
            # Nothing promises that a state means the same to another version.
            raise UserError(
                f'data.source={name.source}: was begun with datasets {state["datasets"]}, and this '
                f'is {self._version}; install that one to go on'
            )
        builder = self._builder(state['revision'] if state else None)
        self._revision = None if name.folder else builder.hash
        self._split, self._stream = self._chosen(builder)
        if state is not None:
            self._stream.load_state_dict(state['place'])

    def texts(self) -> Iterator[str]:
        """See `Stream.texts`."""
        examples = iter(self._stream)
        while True:
            # Any format, any file system: what can go wrong there has no type of its own.
            try:
                example = next(examples, None)
            except Exception as error:
                raise self._error(f'broke off ({_words(error)})') from None
            if example is None:
                return
            yield self._text(example)

    def state(self) -> dict[str, Any]:
        """See `Stream.state`."""
        return {
            'source': self._name.source,
            'split': self._split,
            'revision': self._revision,
            'datasets': self._version,
            'place': self._stream.state_dict(),
        }

    def _text(self, example: dict[str, Any]) -> str:
        field, source = self._text_field, self._name.source
        if field not in example:
            raise UserError(
                f'data.text_field={field}: {source} has no such field'
                f'{did_you_mean(field, [*example])} (fields: {", ".join(example)})'
            )
        value = example[field]
        if value is None:  # as in a parquet file: an empty text, dropped and counted
            return ''
        if not isinstance(value, str):
            raise UserError(
                f'data.text_field={field}: {source} holds {type(value).__name__} there, not text'
            )
        return require_text(source, value)

    def _builder(self, revision: str | None) -> Any:
        import datasets

        path = str(self._name.folder or self._name.dataset)
        try:
            return datasets.load_dataset_builder(path, self._name.config or None, revision=revision)
        except ValueError as error:
            raise self._no_config(path, error) from None
        except Exception as error:
            raise self._error(f'cannot be opened ({_words(error)})') from None

    def _no_config(self, path: str, error: ValueError) -> UserError:
        """A ValueError is of the config, which is not there or must be said, or of files."""
        import datasets

        try:
            known = datasets.get_dataset_config_names(path)
        except Exception:
            known = []
        if self._name.config and known and self._name.config not in known:
            return self._error(
                f'has no config {self._name.config}{_one_of(known, self._name.config)}'
            )
        if not self._name.config and len(known) > 1:
            return self._error(f'say which config, hf:NAME:CONFIG{_one_of(known)}')
        return self._error(f'cannot be opened ({_words(error)})')

    def _chosen(self, builder: Any) -> tuple[str, Any]:
        """The name of the split and its stream."""
        try:
            streams = builder.as_streaming_dataset()
        except Exception as error:
            raise self._error(f'cannot be opened ({_words(error)})') from None
        known = [*streams]
        split = self._name.split or (known[0] if len(known) == 1 else 'train')
        if split not in known:
            raise self._error(f'has no split {split}{_one_of(known, self._name.split)}')
        return split, streams[split]

    def _error(self, words: str) -> UserError:
        return UserError(f'data.source={self._name.source}: {words}')


def _one_of(known: list[str], word: str = '') -> str:
    """The one that `word` is like, or the first of all: some datasets have hundreds."""
    hint = did_you_mean(word, known)
    if 'did you mean' in hint:
        return hint
    more = f' and {len(known) - _MOST_NAMES} more' if len(known) > _MOST_NAMES else ''
    return f'; one of {", ".join(known[:_MOST_NAMES])}{more}'


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f'{type(error).__name__}: {lines[0][:200]}' if lines else type(error).__name__
