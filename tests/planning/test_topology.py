"""Names of TPU slices and of hosts with GPUs; what is not in the table is a line."""

import pytest

from lm.errors import UserError
from lm.planning.devices import DEVICES
from lm.planning.gpu_targets import TARGETS
from lm.planning.topology import PODS, find_topology


def test_names() -> None:
    large = find_topology('v5p:16x16x24')
    assert (large.chips, large.device.name, str(large)) == (6144, 'v5p', 'v5p:16x16x24')
    assert find_topology('v5e:2x4').shape == (2, 4)
    hosts = find_topology('h100:16x8')
    assert (hosts.chips, hosts.device.name, hosts.platform) == (128, 'h100', 'gpu')
    assert large.platform == 'tpu'
    assert set(PODS) | set(TARGETS) <= set(DEVICES)


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('v5e', 'must be KIND:CHIPSxCHIPS'),
        ('v5e:8', 'must be KIND:CHIPSxCHIPS'),
        ('v5e:0x4', 'must be KIND:CHIPSxCHIPS'),
        ('v5e:2x4:1', 'must be KIND:CHIPSxCHIPS'),
        ('v5f:2x4', 'v5f is not in the table; did you mean v5'),
        ('h10:8x8', 'h10 is not in the table; did you mean h100'),
        ('h100:8', 'must be KIND:CHIPSxCHIPS'),
        ('h100:8x16', 'must be h100:HOSTSxGPUS, at most 8 GPUs a host'),
        ('h100:2x2x2', 'must be h100:HOSTSxGPUS'),
        ('v5e:2x2x2', 'v5e has 2 axes, at most 16x16'),
        ('v5e:32x8', 'v5e has 2 axes, at most 16x16'),
        ('v5p:8x8', 'v5p has 3 axes, at most 16x20x28'),
        ('v5p:32x8x8', 'v5p has 3 axes'),
    ],
)
def test_what_is_not_in_the_table(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        find_topology(name)
    assert f'topology={name}: ' in str(caught.value) and words in str(caught.value)
