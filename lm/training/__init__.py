"""A run: its program, state, step, loop, checkpoints and record."""
