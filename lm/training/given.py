"""What `checkpoint.init_from` names: parameters of a run, of one of its checkpoints, or foreign.

Opened they tell which parameters there are; arrays are read later, each device getting its part.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lm.config import Config, ModelConfig
from lm.data.sentencepiece_training import KINDS
from lm.data.tokenizer import has_tokenizer
from lm.errors import UserError
from lm.hub.fitting import fitting
from lm.hub.folder import ForeignModel, read_model
from lm.hub.foreign_config import is_foreign, label_names
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.shapes import Dims, Params
from lm.storage import is_stored
from lm.training.load import newest_undamaged
from lm.training.quantized import is_quantized
from lm.training.resume import fork_words
from lm.training.saved import SavedStates
from lm.training.workdir import Workdir

Like = Mapping[str, Any]
"""ShapeDtypeStructs with shardings, by path."""


class There(NamedTuple):
    """What parameters there are.

    Attributes:
      model: that they are of, its vocabulary padded as they are.
      dims: letters of their axes, by path.
      shapes: by path.
      ignored: what is there besides and no model of ours has, in few words.
    """

    model: ModelConfig
    dims: Dims
    shapes: Mapping[str, tuple[int, ...]]
    ignored: Sequence[str] = ()


@runtime_checkable
class Given(Protocol):
    """Parameters that can be begun with."""

    @property
    def words(self) -> str:
        """The field and its value, for errors."""

    @property
    def name(self) -> str:
        """The architecture that they are of."""

    @property
    def labels(self) -> Sequence[str]:
        """What its head for labels tells apart, in the order of the logits; else nothing."""

    @property
    def tokenizer(self) -> Path | None:
        """Of the model, as `load_tokenizer` reads one; None: none came with it."""

    def require(self, config: Config) -> None:
        """Raises UserError where a run of `config` cannot begin with them; the text is not read."""

    def there(self, model: ModelConfig) -> There:
        """What there is for a model.

        Raises:
          UserError: it cannot be told.
        """

    def read(self, model: ModelConfig, like: Like) -> tuple[str, Params]:
        """Some of what is `there`, and what to call the place that they come from.

        Args:
          model: that `there` was asked for.
          like: those that are wanted. They come in the dtypes that they are stored in.

        Raises:
          UserError: they are damaged.
        """


def open_given(text: str) -> Given:
    """The parameters that `checkpoint.init_from` names.

    Raises:
      UserError: there is nothing of the kind.
    """
    if not is_stored(text):
        folder = Path(text).expanduser()
        if os.path.isfile(folder):  # False of a name that no file can have
            raise UserError(
                f'checkpoint.init_from={text}: is a file; give a workdir, WORKDIR@STEP or a '
                'Hugging Face folder (`lm convert` makes a workdir of a llama2.c file)'
            )
        if is_foreign(folder):
            with _told_of_field():
                return _Folder(text, folder, read_model(folder))
    path, step = _parts(text)
    run = Workdir(path, 'checkpoint.init_from')
    words = f'checkpoint.init_from={text}'
    if not os.path.exists(run.path):
        raise UserError(f'{words}: does not exist')
    with _told_of_field():
        config = run.read_config()
    if config is None:
        raise UserError(f'{words}: holds no run (no config.json)')
    if is_quantized(run):
        raise UserError(
            f'{words}: its matrices are int8, not to be trained; give what it was made of'
        )
    steps = SavedStates(run.checkpoints, run.stored).steps
    if not steps:
        raise UserError(f'{words}: has no checkpoint yet')
    if step is not None and step not in steps:
        raise UserError(f'{words}: no such checkpoint; there are {", ".join(map(str, steps))}')
    return _Run(text, run, [step] if step is not None else steps[::-1], config)


def require_given(config: Config) -> None:
    """Refuses, before the text is read, a `checkpoint.init_from` that cannot be begun with.

    Raises:
      UserError: as `open_given` and `Given.require`.
    """
    if config.checkpoint.init_from:
        open_given(config.checkpoint.init_from).require(config)


@dataclass(frozen=True)
class _Run:
    """Of a run, or of a converted model in a workdir."""

    text: str
    folder: Workdir
    steps: Sequence[int]  # that may serve, the newest first
    config: Config

    @property
    def words(self) -> str:
        return f'checkpoint.init_from={self.text}'

    @property
    def name(self) -> str:
        return self.config.model.name

    @property
    def labels(self) -> Sequence[str]:
        found: Sequence[str] = getattr(self.config.objective.options, 'labels', ())
        return found

    @property
    def tokenizer(self) -> Path | None:
        path = self.folder.tokenizer_file
        return path if path.exists() else None

    @property
    def _saved(self) -> SavedStates:
        return SavedStates(self.folder.checkpoints, self.folder.stored)

    def require(self, config: Config) -> None:
        """Any model may share some parameters with it."""

    def there(self, model: ModelConfig) -> There:
        own = functional(self.config.model, POLICIES['fp32'])
        _, shapes = newest_undamaged(self.steps, self.words, self._saved.param_shapes)
        return There(self.config.model, own.dims, shapes)

    def read(self, model: ModelConfig, like: Like) -> tuple[str, Params]:
        def read(step: int) -> Params:
            unread = [path for path in self._saved.param_shapes(step) if path not in like]
            return self._saved.read_params(step, dict(like), unread)

        step, params = newest_undamaged(self.steps, self.words, read)
        converted = self.folder.conversion_file.exists()
        return self.folder.name if converted else fork_words(self.folder, step), params


@dataclass(frozen=True)
class _Folder:
    """Of a Hugging Face folder."""

    text: str
    folder: Path
    foreign: ForeignModel

    @property
    def words(self) -> str:
        return f'checkpoint.init_from={self.text}'

    @property
    def name(self) -> str:
        return self.foreign.config.name

    @property
    def labels(self) -> Sequence[str]:
        if self.foreign.config.num_labels is None:
            return ()
        return label_names(self.folder, self.foreign.config.labels)

    @property
    def tokenizer(self) -> Path | None:
        return self.folder if has_tokenizer(self.folder) else None

    def require(self, config: Config) -> None:
        name, tokenizer = config.model.name, config.data.tokenizer
        if name != self.name:
            raise UserError(
                f'{self.words}: model.name={name}, and a {self.name} there; set '
                f'model.name={self.name}'
            )
        if tokenizer in KINDS:
            remedy = self.folder if self.tokenizer else 'the one that the model was trained with'
            raise UserError(
                f'{self.words}: data.tokenizer={tokenizer} would be trained anew, with other ids; '
                f'set data.tokenizer={remedy}'
            )

    def there(self, model: ModelConfig) -> There:
        with _told_of_field():
            found = fitting(self.folder, self.foreign, model)
        theirs = replace(self.foreign.config, vocab_multiple=model.vocab_multiple)
        own = functional(model, POLICIES['fp32'])
        return There(theirs, own.dims, found.shapes, found.ignored)

    def read(self, model: ModelConfig, like: Like) -> tuple[str, Params]:
        lies = {path: x.sharding for path, x in like.items()}
        with _told_of_field():
            params = fitting(self.folder, self.foreign, model).params(lies)
        return str(self.folder), params


def _parts(text: str) -> tuple[str, int | None]:
    """The parts of `WORKDIR@STEP`; a folder of just that name is a workdir."""
    path, at, step = text.rpartition('@')
    whole = not is_stored(text) and os.path.exists(Path(text).expanduser())
    return (path, int(step)) if at and step.isdecimal() and not whole else (text, None)


@contextlib.contextmanager
def _told_of_field() -> Iterator[None]:
    """Lets errors about files name the field that led to them."""
    try:
        yield
    except UserError as error:
        raise UserError(f'checkpoint.init_from: {error}') from error
