"""Architectures by file name. A member defines:

FAMILY: `'encoder'`, `'decoder'` or `'encoder_decoder'`.
Options: a frozen dataclass of the architecture's own fields, all with defaults.
spec(config): `ModelConfig -> TransformerSpec` or `RecurrentSpec`: what it is made of, from which
    `lm plan` counts.
build(config, rngs): `(ModelConfig, nnx.Rngs) -> nnx.Module`. `config.options` is an `Options`;
    the module's parameters are `nnx.Param(value, dims=...)` and its call is
    `model(batch, *, layout, compute_dtype, dropout_key=None) -> logits_BTV` (fp32). One that reads
    token by token also has `start(rows, context)` and `advance(tokens_B, state, context)`.
check(config): raises a UserError of a whole run that it cannot be part of; may be absent.

jax and flax are imported within functions only, so that a config is read without them.
"""
