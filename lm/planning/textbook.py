"""Rules of thumb for the memory of training, and where each holds. Imports no jax."""

from lm.config import ModelConfig
from lm.planning.activations import Work, activations
from lm.planning.axes import Axes
from lm.planning.counts import count_parameters
from lm.planning.memory import Held, Strategy, state_memory
from lm.planning.parameters import model_shape
from lm.planning.recipes import RECIPES

SIZES = {'1B': 1e9, '175B': 175e9, '500B': 500e9}

SHAPES = {
    '1B': (24, 2048, 16),
    '175B': (96, 12_288, 96),
    '500B': (105, 20_480, 128),
}
"""Layers, width and heads of models near these sizes: GPT-3 1.3B and 175B (Brown et al. 2020,
table 2.1) and Megatron-Turing NLG 530B (Smith et al. 2022, section 2.2)."""
ROW = 2048
"""Tokens of a row of all three."""

ZERO_DEVICES = (1, 4, 16, 64, 256, 1024)
ZERO_SIZES = {'7.5B': 7.5e9, '128B': 128e9, '1T': 1e12}
ZERO_COLUMNS: dict[str, Strategy] = {'Pos': 'zero1', 'Pos+g': 'zero2', 'Pos+g+p': 'zero3'}
"""The ZeRO paper's names (Rajbhandari et al. 2020, table 1) and ours."""


def rows_that_fill(size: str) -> float:
    """Rows on a device at which 64 bytes a parameter of activations and logits are right.

    Of the 80 bytes 16 are fp32 Adam's. For a GPT-2 of the shape named, in fp32, nothing
    recomputed, scores kept.
    """
    layers, width, heads = SHAPES[size]
    config = ModelConfig(
        name='gpt2', num_layers=layers, d_model=width, num_heads=heads, vocab_size=50_257,
        max_positions=ROW,
    )  # fmt: skip
    model = model_shape(config)
    one = activations(model, Work(1, {'decoder': ROW}, Axes(1, 1), 4), 'none').peak
    return RECIPES['often_quoted'].temporaries * count_parameters(model).total / one


def accounting() -> str:
    """Bytes by the parameter, for the sizes that are often asked for."""
    store, textbook, quoted = 4, RECIPES['textbook'].total, RECIPES['often_quoted'].total
    lines = [
        'Rules of thumb (GB = 1e9 bytes, all devices together)',
        '  fp32: 4 weights + 4 gradients + 8 Adam + 8 activations and temporaries = 24 bytes a '
        'parameter',
        '  often quoted: 80 bytes a parameter, 40 in 16 bit, 20 in 8 bit; 64 of the 80 would be '
        'activations',
        '  mixed precision: 2 weights + 2 gradients + 12 Adam and fp32 copy = 16 bytes, without '
        'activations',
        '',
        '  size   store fp32     24 bytes     80 bytes       16 bit        8 bit   '
        f'80 holds at rows of {ROW}',
    ]
    for name, params in SIZES.items():
        sizes = (store, textbook, quoted, quoted / 2, quoted / 4)
        cells = ''.join(f'{size * params / 1e9:>10,.0f} GB' for size in sizes)
        lines.append(f'  {name:<4}{cells}   {rows_that_fill(name):.1f}')
    return '\n'.join(lines)


def zero_table() -> str:
    """Table 1 of the ZeRO paper, computed: mixed-precision Adam, GB a device."""
    heads = [f'{size} {column}' for size in ZERO_SIZES for column in ZERO_COLUMNS]
    lines = [
        'ZeRO (Rajbhandari et al. 2020, table 1): model state of mixed Adam, GB a device',
        '  devices' + ''.join(f'{head:>14}' for head in heads),
    ]
    for devices in ZERO_DEVICES:
        cells = ''.join(
            f'{zero_bytes(params, devices, strategy) / 1e9:>14,.2f}'
            for params in ZERO_SIZES.values()
            for strategy in ZERO_COLUMNS.values()
        )
        lines.append(f'  {devices:>7}{cells}')
    return '\n'.join(lines)


def zero_bytes(params: float, devices: int, strategy: Strategy) -> float:
    """Bytes of model state a device: 4P + 12P/n, 2P + 14P/n, 16P/n."""
    arrays = Held.evenly(params, Axes(1, devices))
    return state_memory(arrays, RECIPES['mixed_adam'], strategy).total
