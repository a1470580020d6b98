"""Other projects' checkpoints, in and out: one file of `lm/hub/architectures` an architecture."""
