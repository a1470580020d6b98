"""One of our models as a Hugging Face folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lm import registry
from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.foreign_config import NAME
from lm.hub.safetensors_writer import FORMATS, Planned, write_tensors
from lm.hub.table import Tensor, layer_numbers, letter_sizes
from lm.models.functional import Functional, functional
from lm.precision.policy import POLICIES
from lm.shapes import Params
from lm.vocabulary import Vocabulary


def write_model(
    folder: Path,
    config: ModelConfig,
    params: Params,
    vocabulary: Vocabulary | None,
    shard_bytes: int,
    labels: Sequence[str] = (),
) -> None:
    """Writes `config.json`, `generation_config.json` and the weights.

    The host holds one tensor at a time. Dtypes are those of `params`; tied tensors are written
    once; rows that pad the vocabulary are not written.

    Args:
      folder: exists, and is empty.
      config: the model's shape.
      params: its parameters, on any sharding.
      vocabulary: the special ids that the configs name; None names none.
      shard_bytes: a weights file is at most this large.
      labels: names of what a head for labels tells apart, in the order of their logits.

    Raises:
      UserError: Hugging Face's format cannot say what the model is.
      OSError: the disk refuses.
    """
    names = registry.names('converters')
    if config.name not in names:
        raise UserError(f'model.name={config.name}: has no converter; there are {", ".join(names)}')
    converter = registry.lookup('converters', config.name, 'model.name')
    model = functional(config, POLICIES['fp32'])
    written = converter.write_config(config)
    if labels and 'id2label' in written:
        written['id2label'] = {str(i): name for i, name in enumerate(labels)}
        written['label2id'] = {name: i for i, name in enumerate(labels)}
    dtypes = {np.dtype(array.dtype) for array in params.values()}
    widest = max(dtypes, key=lambda d: d.itemsize)
    written['torch_dtype'] = str(widest)
    ids = special_ids(vocabulary, model.family, config.tokens)
    start = written.get('decoder_start_token_id')
    if start is not None:
        ids['decoder_start_token_id'] = start
    padding = written.get('pad_token_id')
    if padding is not None and ids.get('pad_token_id', padding) != padding:
        raise UserError(
            f"model.name={config.name}: in Hugging Face's format its positions are counted from "
            f'pad_token_id={padding}, and the padding id of the tokenizer is {ids["pad_token_id"]}'
        )
    _write_json(folder / NAME, {**written, **ids})
    if model.family != 'encoder':
        _write_json(folder / 'generation_config.json', ids)
    table = converter.table(config)
    planned = [*_planned(table.tensors, model, params), *_zeros(table.zeros, model, widest)]
    write_tensors(folder, planned, shard_bytes)


def special_ids(vocabulary: Vocabulary | None, family: str, rows: int) -> dict[str, int]:
    """The special ids as `config.json` names them; those beyond the embedding are left out."""
    if vocabulary is None:
        return {}
    ids = {
        'pad_token_id': vocabulary.pad_id,
        'bos_token_id': vocabulary.bos_id,
        'eos_token_id': vocabulary.eos_id,
    }
    if family == 'encoder_decoder':
        ids['decoder_start_token_id'] = vocabulary.pad_id
    return {name: value for name, value in ids.items() if value < rows}


def _planned(tensors: tuple[Tensor, ...], model: Functional, params: Params) -> Iterator[Planned]:
    sizes = letter_sizes(model)
    for tensor in tensors:
        parts = [params[path] for path in tensor.paths]
        dtype = np.dtype(jnp.result_type(*parts))
        if dtype not in FORMATS:
            raise UserError(f'{tensor.paths[0]}: safetensors here hold no {dtype}')
        dims = model.dims[tensor.paths[0]]
        layers = layer_numbers(dims, model.config.num_layers)
        for place, layer in enumerate(layers or [None]):

            def make(
                tensor: Tensor = tensor,
                parts: list[jax.Array] = parts,
                place: int | None = None if layer is None else place,
                dims: str = dims,
                dtype: np.dtype = dtype,
            ) -> np.ndarray:
                arrays = [np.asarray(part if place is None else part[place]) for part in parts]
                own = dims if place is None else dims[1:]
                return tensor.joined(arrays, own, sizes).astype(dtype)

            name = tensor.name.format(layer)
            yield Planned(name, dtype, tensor.shape(sizes), make)


def _zeros(tensors: tuple[Tensor, ...], model: Functional, dtype: np.dtype) -> Iterator[Planned]:
    sizes = letter_sizes(model)
    for tensor in tensors:
        shape = tensor.shape(sizes)
        yield Planned(tensor.name, dtype, shape, partial(np.zeros, shape, dtype))


def _write_json(path: Path, tree: Mapping[str, object]) -> None:
    path.write_text(json.dumps(tree, indent=2, sort_keys=True) + '\n', encoding='utf-8')
