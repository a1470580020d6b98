"""Architectures by file name. A member defines:

FAMILY: `'encoder'`, `'decoder'` or `'encoder_decoder'`.
Options: a frozen dataclass of the architecture's own fields, all with defaults.
spec(config): `ModelConfig -> TransformerSpec`: what it is made of, from which `lm plan` counts.
build(config, rngs): `(ModelConfig, nnx.Rngs) -> nnx.Module`. `config.options` is an `Options`;
    the module's parameters are `nnx.Param(value, dims=...)` and its call is
    `model(batch, *, layout, compute_dtype, dropout_key=None) -> logits_BTV` (fp32).

jax and flax are imported within functions only, so that a config is read without them.
"""
