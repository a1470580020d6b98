"""Makes a vector of each text: the mean of the model's last hidden states over its tokens.

`--text` is a UTF-8 file of a text a line or, ending in `.jsonl`, of an object a line; `--out` is a
NumPy file, fp32 [texts, width], in the order of the lines. Special tokens count, as in
sentence-transformers; padding does not. Of an encoder-decoder they are the encoder's states, of a
decoder its own. Stdout is one JSON object.
"""

import json
import sys
from typing import Any

from lm.errors import UserError
from lm.flags import Flags

from ._files import read_text, require_ending, require_writable
from ._model import define_model, load_model


def define_flags(flags: Flags) -> None:
    """The model, the texts, and how their vectors are made."""
    define_model(flags)
    flags.define('text', str, '', 'a file of a text a line, or FILE.jsonl')
    flags.define('text_field', str, 'text', "of a .jsonl file's objects, the field with the text")
    flags.define('out', str, '', 'FILE.npy to write')
    flags.define('batch_size', int, 32, 'texts read at once, at most')
    flags.define('normalize', bool, False, 'make vectors of length 1, so that products are cosines')
    flags.define('truncate', bool, False, 'cut texts longer than the context, instead of refusing')


def main(flags: Flags) -> None:
    """Writes the vectors, and prints how many there are."""
    path, out = flags.required('text'), flags.required('out')
    require_ending('out', out, ('.npy',))
    require_writable('out', out)
    if flags['batch_size'] < 1:
        raise UserError(f'--batch_size={flags["batch_size"]}: must be at least 1')
    texts = _texts(path, flags['text_field'])
    import numpy as np

    from lm.inspection.vectors import text_vectors

    vectors_ND, truncated = text_vectors(
        load_model(flags),
        texts,
        batch_size=flags['batch_size'],
        normalize=flags['normalize'],
        truncate=flags['truncate'],
        words=lambda i: f'--text={path}: line {i + 1}',
    )
    if truncated:
        print(
            f'lm embed: {truncated} of {len(texts)} texts were cut to the context', file=sys.stderr
        )
    try:
        np.save(out, vectors_ND)
    except OSError as error:
        raise UserError(f'--out={out}: cannot be written ({error.strerror})') from None
    width = vectors_ND.shape[1]
    print(json.dumps({'texts': len(texts), 'width': width, 'truncated': truncated}))


def _texts(path: str, field: str) -> list[str]:
    """The texts of a file, one a line.

    Raises:
      UserError: it cannot be read, or a line of JSON is no object with the field.
    """
    lines = read_text('text', path).removesuffix('\n').split('\n')
    lines = [line.removesuffix('\r') for line in lines]
    if not path.lower().endswith('.jsonl'):
        return lines
    texts = []
    for number, line in enumerate(lines, 1):
        try:
            told: Any = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f'--text={path}: line {number} is no JSON ({error})') from None
        text = told.get(field) if isinstance(told, dict) else None
        if not isinstance(text, str):
            raise UserError(
                f'--text={path}: line {number} has no text in the field {field!r}; give its name '
                'as --text_field'
            )
        texts.append(text)
    return texts
