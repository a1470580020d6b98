"""Converters by the name of our architecture, which is the file's name. A member defines:

MODEL_TYPES: the `model_type`s of `config.json` that it reads.
read_config(foreign, names): `(ForeignConfig, Collection[str]) -> ModelConfig`; `names` are the
    tensors in the files. Every key that changes what the model computes is taken or refused.
write_config(config): `ModelConfig -> dict`, the `config.json` that transformers reads.
table(config): `ModelConfig -> Table`, the tensors of such a checkpoint.
"""
