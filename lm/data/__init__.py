"""Text on its way to rows: sources, tokenizers, the prepared store, mixtures and packing."""
