"""The architectures in float64 NumPy, one document at a time, written from the papers.

Nothing here masks, packs, batches or stacks: a document alone, head by head. Only the names and
shapes of the parameters are those of `lm.models`.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from lm.config import ModelConfig

Array = np.ndarray
Tree = dict[str, Array]


def gelu(x: Array) -> Array:
    """x Phi(x)."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def gelu_tanh(x: Array) -> Array:
    """The approximation of Hendrycks and Gimpel 2016, section 2."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def relu(x: Array) -> Array:
    """x where it is positive, else 0."""
    return np.maximum(x, 0)


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return x / (1 + np.exp(-x))


def layer_norm(x: Array, p: Tree, eps: float) -> Array:
    """Ba et al. 2016."""
    centred = x - x.mean(-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return centred / spread * p['scale'] + p.get('bias', 0)


def rms_norm(x: Array, p: Tree, eps: float) -> Array:
    """Zhang and Sennrich 2019."""
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * p['scale']


def turn(x: Array, theta: float) -> Array:
    """Rotary embedding as multiplication of complex numbers; x is [T, K]."""
    half = x.shape[1] // 2
    z = x[:, :half] + 1j * x[:, half:]
    for position in range(len(x)):
        for i in range(half):
            z[position, i] *= np.exp(1j * position * theta ** (-2 * i / x.shape[1]))
    return np.concatenate([z.real, z.imag], axis=1)


def attention(
    x: Array,
    source: Array,
    p: Tree,
    *,
    causal: bool,
    scale: float,
    bias: Array | None = None,
    rope_theta: float | None = None,
    turned: int | None = None,
) -> Array:
    """Vaswani et al. 2017, section 3.2, a head and a query at a time."""
    heads, groups = p['query'].shape[1], p['key'].shape[1]
    y = np.zeros_like(x)
    for h in range(heads):
        g = h * groups // heads
        q, k, v = x @ p['query'][:, h], source @ p['key'][:, g], source @ p['value'][:, g]
        if 'query_bias' in p:
            q, k, v = q + p['query_bias'][h], k + p['key_bias'][g], v + p['value_bias'][g]
        if rope_theta is not None:
            q, k = (
                np.concatenate([turn(x[:, :turned], rope_theta), x[:, turned or len(x[0]) :]], 1)
                for x in (q, k)
            )
        for t in range(len(x)):
            end = t + 1 if causal else len(source)
            score = scale * (k[:end] @ q[t])
            if bias is not None:
                score = score + bias[h, t, :end]
            weight = np.exp(score - score.max())
            y[t] += (weight / weight.sum()) @ v[:end] @ p['output'][h]
    return y + p.get('output_bias', 0)


def feed_forward(x: Array, p: Tree, activate: Callable[[Array], Array]) -> Array:
    """Vaswani et al. 2017, section 3.3; with a gate as in Shazeer 2020."""
    up = x @ p['up'] + p.get('up_bias', 0)
    hidden = activate(x @ p['gate']) * up if 'gate' in p else activate(up)
    return hidden @ p['down'] + p.get('down_bias', 0)


def bucket(distance: int, *, causal: bool) -> int:
    """T5's bucket of (key place - query place): 32 buckets, 128 the largest distance told apart."""
    first, count = 0, 32
    if not causal:
        count = 16
        first = 16 if distance > 0 else 0
        distance = -abs(distance)
    near = max(-distance, 0)
    if near < count // 2:
        return first + near
    grown = math.log(near / (count // 2)) / math.log(128 / (count // 2)) * (count - count // 2)
    return first + min(count // 2 + int(grown), count - 1)


def relative_bias(table: Array, length: int, *, causal: bool) -> Array:
    """[H, T, S] from a [R, H] table."""
    rows = [[table[bucket(s - t, causal=causal)] for s in range(length)] for t in range(length)]
    return np.array(rows).transpose(2, 0, 1)


def below(params: Tree, prefix: str, layer: int | None = None) -> Tree:
    """The parameters under a path, of one layer where they are stacked."""
    inner = {p[len(prefix) + 1 :]: a for p, a in params.items() if p.startswith(f'{prefix}/')}
    return inner if layer is None else {path: array[layer] for path, array in inner.items()}


def bert(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Devlin et al. 2018: [T] -> [T, V]."""
    x = params['embedding/tokens'][tokens] + params['encoder/token_types'][0]
    x = x + params['encoder/learned_positions/table'][: len(tokens)]
    return masked_head(params, post_norm(params, config, 'encoder', x, 1e-12), 1e-12)


def roberta(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Liu et al. 2019, whose padding id is 0 here: [T] -> [T, V]."""
    x = params['embedding/tokens'][tokens]
    x = x + params['encoder/learned_positions/table'][1 : 1 + len(tokens)]
    return masked_head(params, post_norm(params, config, 'encoder', x, 1e-5), 1e-5)


def modernbert(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Warner et al. 2024: [T] -> [T, V]."""
    eps, scale, options = 1e-5, config.head_width**-0.5, config.options
    place = np.arange(len(tokens))
    far = np.abs(place[:, None] - place[None, :]) > options.local_reach
    local = np.broadcast_to(np.where(far, -np.inf, 0.0), (config.num_heads, *far.shape))
    x = params['embedding/tokens'][tokens]
    x = layer_norm(x, below(params, 'encoder/embedding_norm'), eps)
    for layer in range(config.num_layers):
        p = below(params, 'encoder/layers', layer)
        h = x
        if layer > 0:
            h = layer_norm(x, below(params, 'encoder/inner_attention_norm', layer - 1), eps)
        bias, theta = (None, 160_000.0) if layer % options.global_every == 0 else (local, 10_000.0)
        a = below(p, 'attention')
        x = x + attention(h, h, a, causal=False, scale=scale, bias=bias, rope_theta=theta)
        h = layer_norm(x, below(p, 'feed_forward_norm'), eps)
        x = x + feed_forward(h, below(p, 'feed_forward'), gelu)
    return masked_head(params, layer_norm(x, below(params, 'encoder/final_norm'), eps), eps)


def post_norm(
    params: Tree, config: ModelConfig, side: str, x: Array, eps: float, memory: Array | None = None
) -> Array:
    """A norm on the embedding, then layers that norm each sum; a decoder reads `memory`."""
    scale, causal = config.head_width**-0.5, side == 'decoder'
    x = layer_norm(x, below(params, f'{side}/embedding_norm'), eps)
    for layer in range(config.num_layers):
        p = below(params, f'{side}/layers', layer)
        x = x + attention(x, x, below(p, 'attention'), causal=causal, scale=scale)
        x = layer_norm(x, below(p, 'attention_norm'), eps)
        if memory is not None:
            x = x + attention(x, memory, below(p, 'cross_attention'), causal=False, scale=scale)
            x = layer_norm(x, below(p, 'cross_attention_norm'), eps)
        x = x + feed_forward(x, below(p, 'feed_forward'), gelu)
        x = layer_norm(x, below(p, 'feed_forward_norm'), eps)
    return x


def masked_head(params: Tree, x: Array, eps: float) -> Array:
    """BERT's head for masked tokens: [T, D] -> [T, V]."""
    x = gelu(x @ params['head/transform/weight'] + params.get('head/transform/bias', 0))
    x = layer_norm(x, below(params, 'head/transform/norm'), eps)
    return x @ params['embedding/tokens'].T + params['head/bias']


def gpt2(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Radford et al. 2019: [T] -> [T, V]."""
    eps, scale = 1e-5, config.head_width**-0.5
    x = params['embedding/tokens'][tokens]
    x = x + params['decoder/learned_positions/table'][: len(tokens)]
    for layer in range(config.num_layers):
        p = below(params, 'decoder/layers', layer)
        h = layer_norm(x, below(p, 'attention_norm'), eps)
        x = x + attention(h, h, below(p, 'attention'), causal=True, scale=scale)
        h = layer_norm(x, below(p, 'feed_forward_norm'), eps)
        x = x + feed_forward(h, below(p, 'feed_forward'), gelu_tanh)
    x = layer_norm(x, below(params, 'decoder/final_norm'), eps)
    return x @ params['embedding/tokens'].T


def alibi(heads: int, length: int) -> Array:
    """Press et al. 2022, section 3, and the recursion of its code: [H, T, S]."""

    def slopes(n: int) -> list[float]:
        if math.log2(n).is_integer():
            start = 2 ** (-(2 ** -(math.log2(n) - 3)))
            return [start * start**i for i in range(n)]
        closest = 2 ** math.floor(math.log2(n))
        return slopes(closest) + slopes(2 * closest)[0::2][: n - closest]

    far = [[-abs(s - t) for s in range(length)] for t in range(length)]
    return np.array([[[m * d for d in row] for row in far] for m in slopes(heads)])


def bloom(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Scao et al. 2022: [T] -> [T, V]."""
    eps, scale = 1e-5, config.head_width**-0.5
    bias = alibi(config.num_heads, len(tokens))
    x = params['embedding/tokens'][tokens]
    x = layer_norm(x, below(params, 'decoder/embedding_norm'), eps)
    for layer in range(config.num_layers):
        p = below(params, 'decoder/layers', layer)
        h = layer_norm(x, below(p, 'attention_norm'), eps)
        x = x + attention(h, h, below(p, 'attention'), causal=True, scale=scale, bias=bias)
        h = layer_norm(x, below(p, 'feed_forward_norm'), eps)
        x = x + feed_forward(h, below(p, 'feed_forward'), gelu_tanh)
    x = layer_norm(x, below(params, 'decoder/final_norm'), eps)
    return x @ params['embedding/tokens'].T


def llama(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Touvron et al. 2023: [T] -> [T, V]."""
    eps, scale = 1e-5, config.head_width**-0.5
    x = params['embedding/tokens'][tokens]
    for layer in range(config.num_layers):
        p = below(params, 'decoder/layers', layer)
        h = rms_norm(x, below(p, 'attention_norm'), eps)
        x = x + attention(
            h, h, below(p, 'attention'), causal=True, scale=scale, rope_theta=10_000.0
        )
        h = rms_norm(x, below(p, 'feed_forward_norm'), eps)
        x = x + feed_forward(h, below(p, 'feed_forward'), silu)
    return rms_norm(x, below(params, 'decoder/final_norm'), eps) @ params['head/output']


def gpt_neox(params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Black et al. 2022: [T] -> [T, V]."""
    eps, scale = 1e-5, config.head_width**-0.5
    turned = max(2, config.head_width // 4)
    x = params['embedding/tokens'][tokens]
    for layer in range(config.num_layers):
        p = below(params, 'decoder/layers', layer)
        h = layer_norm(x, below(p, 'attention_norm'), eps)
        a = below(p, 'attention')
        seen = attention(h, h, a, causal=True, scale=scale, rope_theta=10_000.0, turned=turned)
        h = layer_norm(x, below(p, 'feed_forward_norm'), eps)
        x = x + seen + feed_forward(h, below(p, 'feed_forward'), gelu)
    return layer_norm(x, below(params, 'decoder/final_norm'), eps) @ params['head/output']


def bart(params: Tree, config: ModelConfig, tokens: Array, decoder_tokens: Array) -> Array:
    """Lewis et al. 2020: [S], [T] -> [T, V]."""

    def side(name: str, tokens: Array, memory: Array | None) -> Array:
        x = params['embedding/tokens'][tokens]
        x = x + params[f'{name}/learned_positions/table'][2 : 2 + len(tokens)]
        return post_norm(params, config, name, x, 1e-5, memory)

    memory = side('encoder', tokens, None)
    return side('decoder', decoder_tokens, memory) @ params['embedding/tokens'].T


def t5_side(
    params: Tree, config: ModelConfig, side: str, tokens: Array, memory: Array | None
) -> Array:
    """One side of T5, whose attention is not scaled; the decoder reads `memory`."""
    eps, causal = 1e-6, side == 'decoder'
    bias = relative_bias(params[f'{side}/relative_positions/table'], len(tokens), causal=causal)
    x = params['embedding/tokens'][tokens]
    for layer in range(config.num_layers):
        p = below(params, f'{side}/layers', layer)
        h = rms_norm(x, below(p, 'attention_norm'), eps)
        x = x + attention(h, h, below(p, 'attention'), causal=causal, scale=1, bias=bias)
        if memory is not None:
            h = rms_norm(x, below(p, 'cross_attention_norm'), eps)
            x = x + attention(h, memory, below(p, 'cross_attention'), causal=False, scale=1)
        h = rms_norm(x, below(p, 'feed_forward_norm'), eps)
        plain = 'feed_forward/gate' not in p
        x = x + feed_forward(h, below(p, 'feed_forward'), relu if plain else gelu_tanh)
    return rms_norm(x, below(params, f'{side}/final_norm'), eps)


def t5(params: Tree, config: ModelConfig, tokens: Array, decoder_tokens: Array) -> Array:
    """Raffel et al. 2020, release 1.1 or, of a tied model, 1.0: [S], [T] -> [T, V]."""
    memory = t5_side(params, config, 'encoder', tokens, None)
    x = t5_side(params, config, 'decoder', decoder_tokens, memory)
    if 'head/output' not in params:
        return x / math.sqrt(config.d_model) @ params['embedding/tokens'].T
    return x @ params['head/output']


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def cell(kind: str, p: Tree, xs: Array) -> Array:
    """A recurrent cell over a document, a position at a time: [T, D] -> [T, E]."""
    width, gates = p['recurrent'].shape[0], p['recurrent'].shape[1]
    h, c, out = np.zeros(width), np.zeros(width), []
    for x in xs:
        reads = [x @ p['input'][:, gate] + p['bias'][gate] for gate in range(gates)]
        keeps = [h @ p['recurrent'][:, gate] for gate in range(gates)]
        if kind == 'lstm':
            i, f, g, o = (read + keep for read, keep in zip(reads, keeps, strict=True))
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            r, z = sigmoid(reads[0] + keeps[0]), sigmoid(reads[1] + keeps[1])
            n = np.tanh(reads[2] + r * (keeps[2] + p['reset_bias']))
            h = (1 - z) * n + z * h
        out.append(h)
    return np.array(out)


def recurrent(kind: str, params: Tree, config: ModelConfig, tokens: Array) -> Array:
    """Stacked cells: [T] -> [T, V]."""
    x = params['embedding/tokens'][tokens]
    for layer in range(config.num_layers):
        x = cell(kind, below(params, 'decoder/layers', layer), x)
    return x @ params['head/output']


def recurrent_seq2seq(
    kind: str, params: Tree, config: ModelConfig, tokens: Array, decoder_tokens: Array
) -> Array:
    """Bahdanau et al. 2014, section 3.2; Luong et al. 2015, section 3.1: [S], [T] -> [T, V]."""
    memory, x = (params['embedding/tokens'][ids] for ids in (tokens, decoder_tokens))
    for layer in range(config.num_layers):
        p = below(params, 'encoder/layers', layer)
        forward = cell(kind, below(p, 'forward'), memory)
        backward = cell(kind, below(p, 'backward'), memory[::-1])[::-1]
        memory = np.concatenate([forward, backward], axis=1)
    for layer in range(config.num_layers):
        p = below(params, 'decoder/layers', layer)
        a = below(p, 'cross_attention')
        hidden = cell(kind, below(p, 'cell'), x)
        x = np.zeros_like(hidden)
        for t, h in enumerate(hidden):
            score = memory @ a['query'].T @ h / math.sqrt(config.d_model)
            weight = np.exp(score - score.max())
            context = (weight / weight.sum()) @ memory
            x[t] = np.tanh(context @ a['output'] + h @ a['state'])
    return x @ params['head/output']


lstm, gru = partial(recurrent, 'lstm'), partial(recurrent, 'gru')
lstm_seq2seq, gru_seq2seq = partial(recurrent_seq2seq, 'lstm'), partial(recurrent_seq2seq, 'gru')
"""Hochreiter and Schmidhuber 1997 with Gers et al. 2000; Cho et al. 2014, reset after the
product."""
