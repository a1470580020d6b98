"""Models from and to other projects' formats: a foreign one becomes a workdir, a run a folder."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from lm.config import CheckpointConfig, Config, ModelConfig
from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
from lm.data.tokenizer import Tokenizer, has_tokenizer, load_tokenizer
from lm.errors import UserError
from lm.hub import llama2c
from lm.hub.export import write_model
from lm.hub.folder import Weights, open_folder
from lm.hub.foreign_config import NAME, is_foreign
from lm.hub.llama2c_tokenizer import sentencepiece_model
from lm.hub.tokenizer_files import tokenizer_files
from lm.hub.trained_form import write_form
from lm.models.functional import functional
from lm.planning.counts import count_parameters
from lm.precision.policy import INT8, POLICIES, policy_of
from lm.shapes import Params
from lm.storage import is_stored, require_disk
from lm.training.checkpoint import Checkpoints
from lm.training.load import config_of, load_run
from lm.training.program import resolve_policy
from lm.training.quantized import is_quantized, rounded_params
from lm.training.step import State
from lm.training.workdir import Workdir, write_json


def convert(
    source: str | Path,
    target: str | Path,
    tokenizer: str | Path | None,
    shard_bytes: int,
    *,
    quantize: bool = False,
    card: Callable[[], str | None] = lambda: None,
) -> str:
    """Makes of a Hugging Face folder or a llama2.c file a workdir, of a run a Hugging Face folder.

    Quantized, of either a workdir.

    Args:
      source: what is converted.
      target: a folder that does not exist yet or is empty; it appears whole or not at all.
      tokenizer: of a foreign model, where its folder holds none or another is wanted: what
        `load_tokenizer` reads, or llama2.c's `.bin`.
      shard_bytes: a safetensors file that is written is at most this large.
      quantize: matrices become int8.
      card: of a run makes the README.md of its folder; None: there is to be none.

    Returns:
      What was made, in a line.

    Raises:
      UserError: a source that cannot be read or converted, or a target that cannot be written.
    """
    require_disk('--to', target)
    target = Path(target).expanduser().absolute()
    _require_free(target)
    if is_stored(source):
        return _from_run(Workdir(source, '--from'), target, tokenizer, shard_bytes, quantize, card)
    source = Path(source).expanduser()
    try:
        there = source.exists()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        raise UserError(f'--from: cannot be read ({error})') from error
    if not there:
        raise UserError(f'--from={source}: does not exist')
    if source.is_file():
        return _to_workdir(llama2c.open_file(source), source, target, tokenizer, quantize=quantize)
    if is_foreign(source):
        given = tokenizer or (source if has_tokenizer(source) else None)
        words = '--tokenizer' if tokenizer else '--from'
        return _to_workdir(open_folder(source), source, target, given, words, quantize=quantize)
    return _from_run(Workdir(source), target, tokenizer, shard_bytes, quantize, card)


def _from_run(
    run: Workdir,
    target: Path,
    tokenizer: str | Path | None,
    shard_bytes: int,
    quantize: bool,
    card: Callable[[], str | None],
) -> str:
    if not run.config_file.exists():
        raise UserError(
            f'--from={run.name}: holds no {NAME}: it is neither a Hugging Face folder nor a run'
        )
    if tokenizer is not None:
        raise UserError(f'--tokenizer={tokenizer}: a run has its own; leave it out')
    if is_quantized(run):
        asked = '--quantize=int8' if quantize else f'--from={run.name}'
        raise UserError(f'{asked}: the model there is int8 already; give the run it was made of')
    if quantize:
        return _to_small_run(run.name, target)
    return _to_folder(run.name, target, shard_bytes, card())


def _to_workdir(
    weights: Weights,
    source: Path,
    target: Path,
    tokenizer: str | Path | None,
    words: str = '--tokenizer',
    *,
    quantize: bool,
) -> str:
    config = config_of(weights, source)
    rows = weights.config.tokens
    codec = None if tokenizer is None else _tokenizer(Path(tokenizer), rows, words)
    if codec is not None:
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, tokenizer=str(target))
        )
    return _written(target, source, config, weights.params(), codec, quantize=quantize)


def _to_small_run(source: str, target: Path) -> str:
    model = load_run(source)
    codec: Any = model.text_codec
    config = model.config
    if codec is not None:
        data = dataclasses.replace(config.data, tokenizer=str(target))
        config = dataclasses.replace(config, data=data)
    return _written(target, source, config, model.params, codec, quantize=True)


def _written(
    target: Path,
    source: str | Path,
    config: Config,
    params: Params,
    codec: Tokenizer | None,
    *,
    quantize: bool,
) -> str:
    """A workdir that holds a model, and no run."""
    told = {'from': str(source)}
    if quantize:
        policy = policy_of(resolve_policy(config).precision)
        model = functional(config.model, policy)
        if not model.by_policy:
            raise UserError(
                f'--quantize=int8: model.name={config.model.name} is a model of yours whose '
                'products are its own; it would not read int8'
            )
        params = rounded_params(params, model.dims, policy)
        told |= {'quantize': INT8}
    with _appearing(target) as folder:
        workdir = Workdir(folder)
        checkpoints = Checkpoints(workdir.checkpoints, CheckpointConfig())
        checkpoints.save(State(params, (), jnp.int32(0)), {'converted': str(source)})
        checkpoints.close()
        workdir.write_config(config)
        write_json(workdir.conversion_file, told)
        if codec is not None:
            workdir.write_tokenizer(codec.files)
    return _words(target, config.model, params, codec)


def _to_folder(source: str, target: Path, shard_bytes: int, card: str | None) -> str:
    model = load_run(source)
    codec: Any = model.text_codec
    vocabulary = None if codec is None else codec.vocabulary
    with _appearing(target) as folder:
        labels = getattr(model.config.objective.options, 'labels', ())
        write_model(folder, model.config.model, model.params, vocabulary, shard_bytes, labels)
        write_form(folder, model.config)
        if codec is not None:
            for name, content in tokenizer_files(codec).items():
                (folder / name).write_bytes(content)
        if card is not None:
            (folder / 'README.md').write_text(card, encoding='utf-8')
    return _words(target, model.config.model, model.params, codec)


def _tokenizer(path: Path, rows: int, words: str) -> Tokenizer:
    """An existing tokenizer, or llama2.c's rewritten; `words` are the flag that names it."""
    if path.suffix != '.bin':
        return load_tokenizer(path, rows, words)
    given = f'{words}={path}'
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f'{given}: cannot be read ({error.strerror})') from error
    return SentencePieceTokenizer(sentencepiece_model(data, rows, given), rows, path, words)


def _require_free(target: Path) -> None:
    """Raises UserError where a new folder cannot stand."""
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except (OSError, ValueError) as error:
        raise UserError(f'--to: cannot be written ({error})') from error
    if taken:
        raise UserError(f'--to={target}: is there already and not empty; give a new folder')


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well.

    Raises:
      UserError: something stands there, or the disk refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.parent))
        try:
            built = aside / target.name
            built.mkdir()
            yield built
            if target.is_dir():
                target.resolve().rmdir()  # empty, as was checked
            built.replace(target.resolve())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise UserError(f'--to={target}: cannot be written ({error.strerror or error})') from error


def _words(target: Path, config: ModelConfig, params: Params, codec: Tokenizer | None) -> str:
    dtypes = sorted({str(array.dtype) for array in params.values()})
    count = count_parameters(functional(config, POLICIES['fp32'])).total
    size = sum(array.nbytes for array in params.values())
    tokenizer = 'no tokenizer' if codec is None else f'a tokenizer of {codec.vocabulary.size} ids'
    return (
        f'{target}: {config.name}, {count:,} parameters in {" and ".join(dtypes)}, {tokenizer}, '
        f'{size / 1e6:,.1f} MB'
    )
