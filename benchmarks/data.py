"""How fast text becomes batches, on one core: from raw text, and from the prepared store.

Command: python -m benchmarks.data [--source=stdlib] [--tokenizer=bpe] [--vocab_size=2048]
    [--seq_len=512] [--batch_size=32] [--seconds=5] [--objectives=clm,mlm,span_corruption,...]
Hardware: one core, to which this process is bound (on Linux); no device.
Time: about a minute.

From raw text: reading, splitting, tokenising and writing the store, with the tokenizer trained too,
and with one that is there. From the store: rows packed, made into an objective's batches by the
pipeline of a run, in its own thread; nothing is placed on a device. Tokens are those of the text:
what a row repeats of the one before is not counted.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm.config import Config, DataConfig, require
from lm.flags import Flags

from ._command import print_table, run_command
from ._machine import cores

CONFIGS = {
    'clm': 'llama_tiny',
    'prefix_lm': 'llama_tiny',
    'mlm': 'bert_tiny',
    'span_corruption': 't5_tiny',
    'denoising': 't5_tiny',
    'ul2': 't5_tiny',
}
"""Objectives, and a named config of a family that each is for."""


def main() -> int:
    """The command; returns its exit status."""
    # Before anything is imported that starts threads.
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return run_command('data', __doc__, _define_flags, _run)


def _define_flags(flags: Flags) -> None:
    flags.define('source', str, 'stdlib', 'as data.source')
    flags.define('tokenizer', str, 'bpe', 'as data.tokenizer: a kind that is trained here')
    flags.define('vocab_size', int, 2048, 'tokens of the tokenizer')
    flags.define('seq_len', int, 512, 'as train.seq_len')
    flags.define('batch_size', int, 32, 'as train.batch_size')
    flags.define('seconds', float, 5.0, 'that each objective is timed')
    flags.define('objectives', tuple[str, ...], tuple(CONFIGS), 'whose batches are made')


def _run(flags: Flags) -> dict[str, Any]:
    require(flags['seconds'] > 0, f'--seconds={flags["seconds"]}: must be positive')
    for name in flags['objectives']:
        require(name in CONFIGS, f'--objectives={name}: there are {", ".join(CONFIGS)}')
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(
            source=flags['source'], tokenizer=flags['tokenizer'], cache_dir=f'{folder}/trained'
        )
        trained, mixture = _prepared(data, flags['vocab_size'])
        model = mixture.tokenizer.files
        for name, content in model.items():
            Path(folder, name).write_bytes(content)
        given = replace(data, tokenizer=folder, cache_dir=f'{folder}/given')
        given_rate, _ = _prepared(given, flags['vocab_size'])
        rates = {name: _rate(name, mixture, flags) for name in flags['objectives']}
    found = {
        'source': flags['source'],
        'tokenizer': flags['tokenizer'],
        'vocab_size': flags['vocab_size'],
        'seq_len': flags['seq_len'],
        'batch_size': flags['batch_size'],
        'cores': cores(),
        'from_text_with_training': trained,
        'from_text': given_rate,
        'from_store': rates,
    }
    _print(found)
    return found


def _prepared(data: DataConfig, vocab_size: int) -> tuple[dict[str, float], Any]:
    from lm.data.mixture import prepare_mixture

    begin = time.perf_counter()
    mixture = prepare_mixture(data, vocab_size)
    seconds = time.perf_counter() - begin
    tokens = sum(part.train.tokens + part.validation.tokens for part in mixture.parts)
    return {'tokens': tokens, 'seconds': seconds, 'tokens_per_second': tokens / seconds}, mixture


def _rate(name: str, mixture: Any, flags: Flags) -> float:
    """Tokens a second of the objective's batches."""
    import lm
    from lm.data.pipeline import batches
    from lm.objectives._objective import build_objective
    from lm.training.evaluate import mixed_rows

    shape = {'seq_len': flags['seq_len'], 'batch_size': flags['batch_size']}
    config: Config = lm.load_config(
        CONFIGS[name],
        train=shape,
        **{
            'objective.name': name,
            'model.vocab_size': flags['vocab_size'],
            'model.max_positions': flags['seq_len'],
        },
    )
    objective = build_objective(config, mixture.tokenizer.vocabulary)
    rows = mixed_rows(objective, mixture, 0)
    stream: Iterator[Any] = batches(
        rows,
        objective.example,
        batch_size=flags['batch_size'],
        start_row=0,
        seed=0,
        threads=0,
    )
    for _ in range(3):
        next(stream)
    made, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < flags['seconds']:
        next(stream)
        made += 1
    seconds = time.perf_counter() - begin
    return made * flags['batch_size'] * rows.stride / seconds


def _print(found: dict[str, Any]) -> None:
    rows = [
        ('raw text, tokenizer trained', f'{found["from_text_with_training"]["seconds"]:.1f} s',
         f'{found["from_text_with_training"]["tokens_per_second"]:,.0f}'),
        ('raw text, tokenizer given', f'{found["from_text"]["seconds"]:.1f} s',
         f'{found["from_text"]["tokens_per_second"]:,.0f}'),
    ]  # fmt: skip
    rows += [(f'store, {name}', '', f'{rate:,.0f}') for name, rate in found['from_store'].items()]
    print_table((f'{found["source"]}, one core', 'whole', 'tokens/s'), rows)


if __name__ == '__main__':
    sys.exit(main())
