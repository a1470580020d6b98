"""What a foreign format cannot say of one of our models."""

from typing import Any

from lm.config import ModelConfig, require


def require_option(config: ModelConfig, name: str, only: Any) -> None:
    """Raises UserError unless the architecture's option `name` is `only`."""
    value = getattr(config.options, name)
    require(
        value == only,
        f"model.options.{name}={value}: {config.name} in Hugging Face's format has only {only}",
    )


def require_one_group(config: ModelConfig) -> None:
    """Raises UserError where query heads share keys and values."""
    require(
        config.kv_heads == config.num_heads,
        f"model.num_kv_heads={config.num_kv_heads}: {config.name} in Hugging Face's format has "
        f'as many as model.num_heads={config.num_heads}',
    )


def require_head_width(config: ModelConfig) -> None:
    """Raises UserError where the heads together are not as wide as the model."""
    require(
        config.head_width * config.num_heads == config.d_model,
        f"model.head_dim={config.head_dim}: {config.name} in Hugging Face's format has "
        f'model.d_model / model.num_heads',
    )
