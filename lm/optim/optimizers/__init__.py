"""Optimizers by file name. A member defines:

Options: a frozen dataclass of the optimizer's own fields, all with defaults.
build(config, learning_rate, dims): `(OptimConfig, schedule, Dims) -> GradientTransformation`,
    without clipping (the step does it). Masks follow `dims`, never the number of axes.
"""
