"""Continues a prompt, or fills its blanks, with a trained model.

PROMPT may also be given as --prompt. Stdout is the prompt and what the model adds, one text after
another, and nothing else.
"""

import sys

from lm.errors import UserError
from lm.flags import Flags

from ._model import define_model, load_model


def define_flags(flags: Flags) -> None:
    """The model, the prompt and how tokens are chosen."""
    define_model(flags)
    flags.define_words('PROMPT')
    flags.define('prompt', str, '', 'text to continue; empty: from bos; absent: stdin')
    flags.define('max_new_tokens', int, 100, 'tokens added at most')
    flags.define(
        'temperature', float | None, None, 'logits are divided by it; 0 is greedy; none is 1'
    )
    flags.define('top_k', int | None, None, 'only the k likeliest tokens may come')
    flags.define('top_p', float, 1.0, 'only the likeliest tokens that hold this probability')
    flags.define('num_samples', int, 1, 'texts')
    flags.define('seed', int, 0, 'decides the draws')
    flags.define(
        'num_beams',
        int | None,
        None,
        'a beam search so wide finds the likeliest texts; none: drawn',
    )
    flags.define(
        'length_penalty',
        float,
        1.0,
        'power of the length that a search divides by; above 0 longer texts gain',
    )
    flags.define('stop', str | None, None, 'a continuation ends where this comes, left out itself')
    flags.define('fill', bool, False, 'fill each <mask> of the prompt instead of continuing it')


def main(flags: Flags) -> None:
    """Prints the texts."""
    if flags.words and flags.given('prompt'):
        raise UserError(f'{flags.words[0]!r}: give it or --prompt, not both')
    model = load_model(flags)
    prompts = flags.words or (flags['prompt'] if flags.given('prompt') else _typed(),)
    from lm.generation.sample import generate

    # A single continuation is told as it comes; not before its first token, up to which it may be
    # refused.
    searches = flags['num_beams'] is not None
    one = len(prompts) == flags['num_samples'] == 1
    streams = one and model.functional.family == 'decoder' and not searches
    pieces = iter(prompts)

    def told(_: int, piece: str) -> None:
        sys.stdout.write(next(pieces, '') + piece)
        sys.stdout.flush()

    texts = generate(
        model,
        prompts,
        max_new_tokens=flags['max_new_tokens'],
        temperature=flags['temperature'],
        top_k=flags['top_k'],
        top_p=flags['top_p'],
        num_samples=flags['num_samples'],
        seed=flags['seed'],
        num_beams=flags['num_beams'],
        length_penalty=flags['length_penalty'],
        fill=flags['fill'],
        stop=() if flags['stop'] is None else (flags['stop'],),
        on_text=told if streams else None,
    )
    if streams:
        told(0, '\n')
        return
    for text in texts:
        sys.stdout.write(text + '\n')


def _typed() -> str:
    """The prompt that comes by stdin."""
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f'stdin: is not UTF-8 (byte {error.start})') from error
