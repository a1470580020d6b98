"""The text that a run was trained on, read once more: what an evaluation text is compared with."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm.config import Config, DataConfig
from lm.data import prepare
from lm.data.prepare import Text
from lm.data.sources import Reading, Source, open_source
from lm.errors import UserError, naming
from lm.evaluation.overlap import overlap
from lm.objectives._labelled import example_codec
from lm.training.workdir import Workdir

FOREIGN = 'what a Hugging Face folder was trained on is not known here; give --training_text'


def training_texts(config: Config) -> Iterator[str]:
    """The texts of the training side of what a run reads, source after source.

    That is all the run could read: of an epoch that it did not finish, it read a part.

    Raises:
      UserError: a source cannot be opened any more.
    """
    for text in _texts(config):
        yield from prepare.training_texts(text.split, text.codec)


def run_overlap(path: str | Path, texts: Sequence[str]) -> dict[str, Any]:
    """The 13-gram overlap of texts with what the run in a workdir was trained on.

    Args:
      path: the workdir.
      texts: evaluation texts.

    Returns:
      `overlap`, as `Overlap` has it, or None; then also `overlap_unknown`, why not. Where there
      may be more training text than was compared with, `overlap_not_compared` lists it.
    """
    workdir = Workdir(path)
    try:
        config = workdir.read_config()
        if config is None:
            raise UserError(f'workdir={path}: holds no run (no config.json)')
        if workdir.conversion_file.exists():
            raise UserError(f'workdir={path}: holds a converted model; give --training_text')
        _require_as_read(config, workdir)
        told = overlap(training_texts(config), texts)._asdict()
    except UserError as error:
        return unknown_overlap(str(error))
    missing = _not_compared(workdir)
    return {'overlap': told, **({'overlap_not_compared': missing} if missing else {})}


def open_training_text(name: str) -> Source:
    """A text that `--training_text` names as `data.source` takes one.

    Raises:
      UserError: there is none.
    """
    with naming({'data.source': '--training_text'}):
        return open_source(DataConfig(source=name))


def source_overlap(source: Source, texts: Sequence[str]) -> dict[str, Any]:
    """The 13-gram overlap of texts with all of a text that `open_training_text` opened.

    Raises:
      UserError: it cannot be read.
    """
    with naming({'data.source': '--training_text'}):
        training = (document.text for document in source.documents(Reading()))
        return {'overlap': overlap(training, texts)._asdict()}


def unknown_overlap(why: str) -> dict[str, Any]:
    """What stands in the place of an overlap that is not known."""
    return {'overlap': None, 'overlap_unknown': why}


def _texts(config: Config) -> list[Text]:
    names, codec = config.data.names, example_codec(config)
    return [
        Text(replace(config.data, source=name, sources=None, weights=None), codec) for name in names
    ]


def _require_as_read(config: Config, workdir: Workdir) -> None:
    """Raises UserError where a source holds other text than the run's summary tells of."""
    accounts = (workdir.read_summary() or {}).get('data', {})
    for text in _texts(config):
        name = text.data.source
        before = accounts.get(name, {}).get('source_sha256')
        if before is not None and before != text.settings['source']:
            raise UserError(f'data.source={name}: holds other text than the run read')


def _not_compared(workdir: Workdir) -> list[str]:
    """Training text that a run's parameters may have seen besides its own."""
    origins = [
        f'what {row["changes"][kind][1]} was trained on before ({kind})'
        for row in workdir.read_history()
        for kind in ('init_from', 'fork_from')
        if kind in row['changes']
    ]
    unchecked = 'whether the text is still what the run read: it has no summary.json yet'
    return origins if workdir.read_summary() is not None else [*origins, unchecked]
