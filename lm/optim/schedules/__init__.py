"""Learning-rate schedules by file name. A member defines:

build(config, steps): `(OptimConfig, int) -> (step -> learning rate)`, traceable by jax.
plateau_end(config, steps): the step up to which the schedule does not depend on `steps`, so a
    run may be extended from there; None where every step depends on the end.
"""
