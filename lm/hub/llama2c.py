"""Checkpoints of llama2.c (https://github.com/karpathy/llama2.c), version 0 of its `.bin` format.

Seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len), then fp32
tensors without names, a kind at a time over all layers. A negative vocab_size says that the
output matrix is not the embedding. Its rotation pairs neighbouring entries of a head.
"""

import dataclasses
import math
import struct
from pathlib import Path

from lm.config import ModelConfig
from lm.errors import UserError
from lm.hub.architectures import llama
from lm.hub.folder import Weights, checked
from lm.hub.safetensors_reader import Stored
from lm.hub.table import Table, Tensor, letter_sizes
from lm.models.architectures.llama import Options
from lm.models.functional import functional
from lm.precision.policy import POLICIES

_HEADER = struct.Struct('<7i')
_MAGIC = 0x616B3432  # 'ak42': version 1, and the quantized version 2
_LAYER = 'model.layers.{}.'
_ORDER = (
    'model.embed_tokens.weight',
    f'{_LAYER}input_layernorm.weight',
    f'{_LAYER}self_attn.q_proj.weight',
    f'{_LAYER}self_attn.k_proj.weight',
    f'{_LAYER}self_attn.v_proj.weight',
    f'{_LAYER}self_attn.o_proj.weight',
    f'{_LAYER}post_attention_layernorm.weight',
    f'{_LAYER}mlp.gate_proj.weight',
    f'{_LAYER}mlp.down_proj.weight',
    f'{_LAYER}mlp.up_proj.weight',
    'model.norm.weight',
)
"""The tensors in the order of the file, under Hugging Face's names."""
_PAIRED = {'decoder/layers/attention/query': 'H', 'decoder/layers/attention/key': 'G'}


def open_file(path: Path) -> Weights:
    """The model in a llama2.c file; nothing large is read yet.

    Raises:
      UserError: it is no such file, of another version, or cut short.
    """
    try:
        with path.open('rb') as file:
            head = file.read(_HEADER.size)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error
    if len(head) < _HEADER.size:
        raise UserError(f'{path}: is cut short: no llama2.c checkpoint has {size} bytes')
    dim, hidden, layers, heads, groups, vocabulary, longest = _HEADER.unpack(head)
    if dim == _MAGIC:
        raise UserError(
            f'{path}: is llama2.c version {hidden}, only version 0 (`export.py --version 0`) is '
            'supported'
        )
    sizes = (dim, hidden, layers, heads, groups, abs(vocabulary), longest)
    if min(sizes) < 1 or max(sizes) >= 2**31 or dim % heads or heads % groups:
        raise UserError(f'{path}: is no llama2.c checkpoint (its header is {head.hex()})')
    config = ModelConfig(
        name='llama',
        num_layers=layers,
        d_model=dim,
        num_heads=heads,
        num_kv_heads=groups,
        d_ff=hidden,
        vocab_size=abs(vocabulary),
        vocab_multiple=1,
        max_positions=longest,
        options=Options(tie_embeddings=vocabulary > 0),
    )
    table = _paired(llama.table(config))
    end = _file_size(config, table)
    if size != end:
        words = 'is cut short' if size < end else 'is too long'
        raise UserError(f'{path}: {words}: {size:,} bytes, by its header {end:,}')
    return checked(config, table, _placed(path, config, table), str(path))


def _paired(table: Table) -> Table:
    """The table for queries and keys whose neighbouring entries are turned together."""

    def paired(tensor: Tensor) -> Tensor:
        heads = _PAIRED.get(tensor.paths[0])
        if heads is None:
            return tensor
        return dataclasses.replace(tensor, axes=f'({heads}JC)D', dims=f'D{heads}CJ')

    return dataclasses.replace(table, tensors=tuple(map(paired, table.tensors)))


def _file_size(config: ModelConfig, table: Table) -> int:
    """Bytes of the file that the header describes."""
    sizes = letter_sizes(functional(config, POLICIES['fp32']))
    floats = _rotation_floats(config) + sum(
        math.prod(tensor.shape(sizes)) * (config.num_layers if '{}' in tensor.name else 1)
        for tensor in table.tensors
    )
    return _HEADER.size + 4 * floats


def _rotation_floats(config: ModelConfig) -> int:
    """Cosines and sines of the rotation, which follow from the positions."""
    return 2 * config.max_positions * (config.head_width // 2)


def _placed(path: Path, config: ModelConfig, table: Table) -> dict[str, Stored]:
    """Where each tensor lies in the file."""
    sizes = letter_sizes(functional(config, POLICIES['fp32']))
    by_name = {tensor.name: tensor for tensor in table.tensors}
    files: dict[str, Stored] = {}
    place = _HEADER.size

    def add(name: str, shape: tuple[int, ...]) -> None:
        nonlocal place
        stored = Stored(path, 'F32', shape, place)
        files[name] = stored
        place = stored.stop

    for name in _ORDER:
        shape = by_name[name].shape(sizes)
        for layer in range(config.num_layers) if '{}' in name else [0]:
            add(name.format(layer), shape)
    place += 4 * _rotation_floats(config)
    if 'lm_head.weight' in by_name:
        add('lm_head.weight', by_name['lm_head.weight'].shape(sizes))
    return files
