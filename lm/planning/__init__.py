"""A run before it exists: parameters, FLOPs, memory and time of each strategy, without jax."""
