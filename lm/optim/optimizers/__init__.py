"""Optimizers by file name. A member defines:

Options: a frozen dataclass of the optimizer's own fields, all with defaults.
build(config, learning_rate, dims): `(OptimConfig, schedule, Dims) -> GradientTransformation`,
    without clipping (the step does it). Masks follow `dims`, never the number of axes, and each
    layer of a stacked parameter is updated as if it were alone.
LOOKS_AT_WHOLE: true of one that computes with all of a matrix at once (Muon's products); absent: it
    does not. `build` then takes the run's `Layout` as a fourth argument, and does so in
    `Layout.apart`.
kept(options, dims): the letters of each array that it keeps of a parameter of these letters: what
    `lm plan` counts. An array of other letters than the parameter's is on every device.
KEEPS_FP32: true of one whose arrays are of fp32 whatever the parameters are; absent: they are of
    the parameter's dtype.
"""
