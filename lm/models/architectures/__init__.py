"""Architectures by file name. A member defines:

FAMILY: `'encoder'`, `'decoder'` or `'encoder_decoder'`.
Options: a frozen dataclass of the architecture's own fields, all with defaults.
build(config, rngs): `(ModelConfig, nnx.Rngs) -> nnx.Module`, whose parameters are
    `nnx.Param(value, dims=...)` and whose call is
    `model(batch, *, layout, dropout_key=None, compute_dtype) -> logits_BTV` (fp32).
"""
