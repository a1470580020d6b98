"""The tensors that BERT's and RoBERTa's checkpoints name alike: their layers'."""

from lm.hub.table import Tensor

_OURS = 'encoder/layers/'


def layers(base: str) -> list[Tensor]:
    """The layers' tensors; `base` is what the file calls the model."""
    layer = f'{base}encoder.layer.{{}}.'
    return [
        *_linear(f'{layer}attention.self.query', '(HK)', 'D', 'attention/query'),
        *_linear(f'{layer}attention.self.key', '(GK)', 'D', 'attention/key'),
        *_linear(f'{layer}attention.self.value', '(GK)', 'D', 'attention/value'),
        *_linear(f'{layer}attention.output.dense', 'D', '(HK)', 'attention/output'),
        *norm(f'{layer}attention.output.LayerNorm', f'{_OURS}attention_norm'),
        *_linear(f'{layer}intermediate.dense', 'F', 'D', 'feed_forward/up'),
        *_linear(f'{layer}output.dense', 'D', 'F', 'feed_forward/down'),
        *norm(f'{layer}output.LayerNorm', f'{_OURS}feed_forward_norm'),
    ]


def norm(name: str, path: str) -> list[Tensor]:
    """The scale and bias of a norm."""
    return [
        Tensor(f'{name}.weight', 'D', (f'{path}/scale',)),
        Tensor(f'{name}.bias', 'D', (f'{path}/bias',)),
    ]


def _linear(name: str, out: str, into: str, path: str) -> list[Tensor]:
    """The weight and bias of a layer's dense map."""
    return [
        Tensor(f'{name}.weight', out + into, (_OURS + path,)),
        Tensor(f'{name}.bias', out, (f'{_OURS}{path}_bias',)),
    ]
