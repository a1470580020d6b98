"""Shows what a model makes of a text: attention maps, token embeddings, next-token tables.

Writes pictures (`attention.png`, of an encoder-decoder `attention_encoder.png`,
`attention_decoder.png` and `attention_cross.png`; `embeddings.png`; `next_token.png`), the weights
(`attention.npz`) and `index.html`, which holds all of it and needs no network. `<mask>` in the text
is a blank where the model fills blanks. Stdout names the files. Needs the extra `inspect`.
"""

from typing import TYPE_CHECKING, Any

from lm.errors import UserError
from lm.flags import Flags

from ._files import make_folder
from ._model import define_model, load_model

if TYPE_CHECKING:
    from lm.inspection.attention import AttentionMap


def define_flags(flags: Flags) -> None:
    """The model, the text, and what is shown of it."""
    define_model(flags)
    flags.define('text', str, '', 'what the model reads')
    flags.define('target', str, '', 'what the decoder of an encoder-decoder has said already')
    flags.define('out', str, '', 'the folder to write, new or empty')
    flags.define(
        'layers', tuple[int, ...] | None, None, 'layers whose attention is shown, from 0; none: all'
    )
    flags.define('temperature', float, 0.8, 'a setting whose effect is shown; 0 is greedy')
    flags.define('top_k', int | None, 40, 'the same: only the k likeliest tokens may come')
    flags.define('top_p', float, 0.9, 'the same: only those that hold this probability')
    flags.define('rows', int, 20, 'next tokens that are shown')
    flags.define('tokens', int, 400, "token embeddings that are shown, the text's own first")
    flags.define('seed', int, 0, "of t-SNE's beginning")


def main(flags: Flags) -> None:
    """Writes the files and prints their names."""
    text, out = flags.required('text'), flags.required('out')
    from lm.generation.sampling import Sampling
    from lm.inspection.embeddings import require_sklearn

    Sampling(flags['temperature'], flags['top_k'], flags['top_p'])
    require_sklearn()
    folder = make_folder('out', out)
    files = _files(flags, load_model(flags), text)
    for name, data in files.items():
        try:
            (folder / name).write_bytes(data)
        except OSError as error:
            raise UserError(f'--out={out}: {name}: cannot be written ({error.strerror})') from None
        print(folder / name)


def _files(flags: Flags, model: Any, text: str) -> dict[str, bytes]:
    """What is written, by name."""
    from lm.inspection.attention import attention_maps
    from lm.inspection.embeddings import token_points
    from lm.inspection.next_token import next_tokens, nothing_next
    from lm.inspection.page import page, require_room
    from lm.inspection.pictures import (
        attention_figure,
        embeddings_figure,
        next_token_figure,
        png,
    )

    target = flags['target']
    maps = attention_maps(model, text, target=target, layers=flags['layers'])
    require_room(maps)
    points = [
        token_points(model, text, method=method, tokens=flags['tokens'], seed=flags['seed'])
        for method in ('pca', 'tsne')
    ]
    silent = nothing_next(model, text)
    settings = {name: flags[name] for name in ('temperature', 'top_k', 'top_p', 'rows')}
    tables = [] if silent else next_tokens(model, text, target=target, **settings)
    single = len(maps) == 1
    pictures = {
        'attention.png' if single else f'attention_{each.kind}.png': png(attention_figure(each))
        for each in maps
    }
    if tables:
        pictures['next_token.png'] = png(next_token_figure(tables))
    pictures['embeddings.png'] = png(embeddings_figure(points))
    config = model.config.model
    about = f'{config.name}: {config.num_layers} layers, {config.num_heads} heads, width '
    written = page(text, target, about + str(config.d_model), maps, tables, silent, pictures)
    return {**pictures, 'attention.npz': _arrays(maps), 'index.html': written.encode()}


def _arrays(maps: 'list[AttentionMap]') -> bytes:
    """`KIND` [L, H, T, S], with `KIND_rows`, `KIND_columns` and `KIND_layers`, for each kind."""
    import io

    import numpy as np

    arrays: dict[str, Any] = {}
    for each in maps:
        arrays |= {
            each.kind: each.weights_LHTS,
            f'{each.kind}_rows': np.array(each.rows),
            f'{each.kind}_columns': np.array(each.columns),
            f'{each.kind}_layers': np.array(each.layers),
        }
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()
