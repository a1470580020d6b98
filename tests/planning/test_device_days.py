"""Days of a device."""

import pytest

from lm.errors import UserError
from lm.planning.device_days import SOLD_AS, accelerator, find_accelerator
from lm.planning.devices import PEAKS, PF_DAY, peak_flops


@pytest.mark.parametrize(
    ('name', 'teraflops'),
    [
        # Dense 16-bit peaks by the vendors' datasheets; a TPU's by the chip.
        ('v100', 125), ('A100', 312), ('a100-80gb', 312), ('A100 40GB', 312), ('NVIDIA H100', 989),
        ('h200', 989), ('b200', 2250), ('TPU v2', 45), ('v3', 123), ('TPU v4', 275), ('v5e', 197),
        ('v5p', 459), ('v6e', 918), ('TPU7x', None), ('v7x', 2307),
    ],
)  # fmt: skip
def test_peaks(name: str, teraflops: float | None) -> None:
    if teraflops is None:
        with pytest.raises(UserError, match='v7x'):
            find_accelerator(name)
    else:
        assert find_accelerator(name).peak == teraflops * 1e12


def test_every_name_has_a_peak() -> None:
    for name, (key, jax_devices) in SOLD_AS.items():
        assert accelerator(name).peak == jax_devices * max(
            PEAKS[key].get(dtype, 0) for dtype in ('bfloat16', 'float16')
        )


def test_a_chip_of_two_jax_devices() -> None:
    # JAX calls each of an Ironwood's two cores a device.
    assert peak_flops('TPU7x', 'bfloat16') == 2307e12 / 2


def test_a_petaflop_day() -> None:
    # 1e15 FLOP/s for a day are 8 V100s at 125 TFLOP/s.
    assert accelerator('v100').days(PF_DAY, 1.0) == pytest.approx(8)
    assert accelerator('a100').days(PF_DAY, 0.5) == pytest.approx(2 * 1000 / 312)


def test_llama_65b_took_its_days() -> None:
    # Touvron et al. 2023, section 2.4: 380 tokens/s on each of 2048 A100s, so 21 days.
    mfu = 6 * 65.2e9 * 380 / 312e12
    assert accelerator('a100').days(6 * 65.2e9 * 1.4e12, mfu) / 2048 == pytest.approx(21, rel=0.02)


def test_flops_is_the_inverse_of_days() -> None:
    device = accelerator('h100')
    assert device.days(device.flops(24 * 7, 0.4), 0.4) == pytest.approx(7)


@pytest.mark.parametrize('mfu', [0.0, -0.1, 1.01, float('nan')])
def test_a_utilisation_is_a_share(mfu: float) -> None:
    with pytest.raises(UserError, match='above 0 and at most 1'):
        accelerator('h100').days(1e21, mfu)


def test_an_unknown_device() -> None:
    with pytest.raises(UserError, match='did you mean h100'):
        find_accelerator('h1000')
