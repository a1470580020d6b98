"""Optimizers and learning-rate schedules: optax chains, one file each."""
