"""Which compiler a plan speaks of, and what that changes."""

import lm
from lm.planning.compilers import AS_SAVED, TPU, compiler_of
from lm.planning.devices import DEVICES
from lm.planning.plan import plan

SIZES = {'model.vocab_size': 32_000, 'precision.policy': 'bf16_mixed', 'model.remat': 'full'}


def test_compiler_of_a_device() -> None:
    assert compiler_of(None) is AS_SAVED
    for name, device in DEVICES.items():
        assert compiler_of(device) is (TPU if name.startswith('v') and name != 'v100' else AS_SAVED)


def test_state_does_not_depend_on_it() -> None:
    config = lm.load_config('llama_tiny', **SIZES)
    gpu, tpu = (
        plan(config, devices=8, device_kind=kind).memory('zero2') for kind in ('a100-80gb', 'v5p')
    )
    assert (gpu.state, gpu.gradients) == (tpu.state, tpu.gradients)
    assert tpu.logits == gpu.logits / 2
