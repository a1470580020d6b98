"""Converts models from and to Hugging Face's format, and from llama2.c's.

A Hugging Face folder, or a llama2.c `.bin` with `--tokenizer`, becomes a workdir: --workdir of
`generate` and `evaluate` accepts it, and so does checkpoint.init_from of `train`. A run becomes a
Hugging Face folder, which transformers reads, and so does --hf; `lm card` writes its README.md.
With --quantize=int8 either becomes a workdir whose matrices are int8, a quarter of their fp32
bytes, for `generate` and `evaluate`.
"""

import sys
from typing import Literal

from lm.errors import UserError
from lm.flags import Flags


def define_flags(flags: Flags) -> None:
    """What is converted, and where to."""
    flags.define('from', str, '', "a Hugging Face folder, a llama2.c .bin, or a run's workdir")
    flags.define('to', str, '', 'the folder that is made')
    flags.define('tokenizer', str, '', "of a foreign model, where it is not in the model's folder")
    flags.define(
        'quantize', Literal['none', 'int8'], 'none', 'int8: round the matrices, by channel'
    )
    flags.define('shard_gb', float, 5.0, 'a weights file that is written is at most this large')


def main(flags: Flags) -> None:
    """Converts, and says what was made."""
    source, target = flags.required('from'), flags.required('to')
    if flags['shard_gb'] <= 0:
        raise UserError(f'--shard_gb={flags["shard_gb"]}: must be positive')
    from lm.training.convert import convert

    shard_bytes, quantize = int(flags['shard_gb'] * 1e9), flags['quantize'] == 'int8'
    tokenizer = flags['tokenizer'] or None
    made = convert(
        source, target, tokenizer, shard_bytes, quantize=quantize, card=lambda: _card(source)
    )
    print(made)


def _card(source: str) -> str | None:
    """The card of a run; None of one whose record is damaged, which its model need not be."""
    from lm.report.card import card
    from lm.report.card_metadata import Given
    from lm.report.recorded import read_runs

    try:
        [run] = read_runs([source])
        return card(run, Given())
    except UserError as error:
        print(f'note: README.md, the model card, is not written: {error}', file=sys.stderr)
        return None
