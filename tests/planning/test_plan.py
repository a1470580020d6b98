"""A whole plan: its parts add up, its times follow from the rates, and its advice helps."""

import dataclasses

import pytest

import lm
from lm.config import Config
from lm.errors import UserError
from lm.models.functional import functional
from lm.named_configs import load_config
from lm.planning.activations import REMATS
from lm.planning.advice import advice
from lm.planning.devices import DEVICES, PEAKS, find_device, peak_flops
from lm.planning.flops import train_flops, train_flops_exact
from lm.planning.memory import PARTS, STRATEGIES, Strategy
from lm.planning.parameters import model_shape
from lm.planning.plan import plan
from lm.planning.plan_json import as_json
from lm.planning.plan_text import as_text
from lm.planning.roofline import repeated_flops
from lm.planning.rows import side_lengths
from lm.precision.policy import POLICIES
from lm.resolution import override


@pytest.fixture
def seven() -> Config:
    return load_config('llama_7b', **{'train.batch_size': 64})


@pytest.mark.parametrize('name', ['bert_base', 'gpt2_124m', 'llama_7b', 't5v11_base'])
def test_flops_of_the_closed_form_are_those_of_the_built_model(name: str) -> None:
    config = load_config(name)
    built, counted = functional(config.model, POLICIES['fp32']), model_shape(config.model)
    lengths = list(side_lengths(config, counted.family).values())
    for count in (train_flops, train_flops_exact):
        assert count(counted, *lengths) == count(built, *lengths)  # type: ignore[operator]


def test_the_decoders_length_is_the_objectives() -> None:
    config = load_config('t5v11_base')
    # Raffel et al. 2020, section 3.1.4: 512 inputs have 114 targets.
    assert side_lengths(config, 'encoder_decoder') == {'encoder': 512, 'decoder': 114}


def test_parts_add_up_and_stages_save(seven: Config) -> None:
    whole = plan(seven, devices=64, device_kind='h100')
    found = whole.strategies()
    totals = [found[strategy].memory.total for strategy in STRATEGIES]
    assert totals == sorted(totals, reverse=True)
    for one in as_json(whole).values():
        parts = sum(one[f'{name}_bytes'] for name in PARTS)
        assert one['per_device_bytes'] == pytest.approx(parts, abs=9)
    params = 6_738_415_616
    assert found['ddp'].memory.state == 12 * params
    norms = 65 * 4096  # vectors, which every device holds
    assert found['zero3'].memory.state == 12 * ((params - norms) / 64 + norms)
    sizes = [found['ddp'].activations_by_remat[remat] for remat in REMATS]
    assert sizes == sorted(sizes, reverse=True)


def test_times_follow_from_the_rates(seven: Config) -> None:
    one = plan(seven, devices=8, device_kind='h100')
    counted = one.flops()
    assert counted is not None
    exact = counted[1]
    time = one.strategy('ddp').time
    assert time is not None
    again = repeated_flops(exact, 'full')
    assert again == (exact.row - exact.by_group['head']) // 3
    assert time.compute == pytest.approx(64 * (exact.row + again) / (8 * 989e12))
    # Within a host an all-reduce of bf16 gradients sends 2 x 7/8 of them at 450 GB/s.
    assert time.links == pytest.approx(2 * 7 / 8 * 2 * 6_738_415_616 / 450e9)
    assert time.model_flops == 64 * exact.row
    assert time.overlapped <= time.in_turn
    alone = plan(seven, device_kind='h100').strategy('ddp').time
    assert alone is not None and alone.links == 0


def test_links_between_hosts(seven: Config) -> None:
    def links(strategy: Strategy, kind: str = 'h100', **axes: int) -> float:
        time = plan(seven, devices=64, device_kind=kind, **axes).strategy(strategy).time
        assert time is not None
        return time.links

    params, table = 6_738_415_616, 32_000 * 4096
    # Of 8 hosts each lacks 7/8 of a sum, and its 8 devices fetch an eighth of that each: 50 GB/s
    # beside 450 GB/s for 7/8 of it within the host.
    assert links('ddp') == pytest.approx(2 * 2 * params * 7 / 8 / 8 / 50e9, rel=1e-3)
    # Layers are gathered twice, both tables once, all in bf16; gradients are scattered.
    gathered = 2 * params - 2 * table
    zero3 = 2 * (params + gathered) * 7 / 8 / 8 / 50e9
    assert links('zero3') == pytest.approx(zero3, rel=1e-3)
    # Within a host the same, between hosts only gradients, of which a device has an eighth.
    hybrid = max(2 * (params + gathered) * 7 / 8 / 450e9, 2 * 2 * params / 8 * 7 / 8 / 50e9)
    assert links('zero3', fsdp=8) == pytest.approx(hybrid, rel=1e-3)
    assert links('zero3', fsdp=8) < links('zero3')
    # A pod is one network: 63/64 at the rate of the chip's links.
    assert links('ddp', 'v5p') == pytest.approx(2 * 2 * params * 63 / 64 / 600e9, rel=1e-3)


def test_wider_axes_hold_less(seven: Config) -> None:
    # Where positions are split none attends by blocks.
    seven = override(seven, {'model.remat': 'none', 'mesh.attention': 'xla'})
    base = plan(seven, devices=8, fsdp=8).strategy('zero3').memory
    tensor = plan(seven, devices=32, fsdp=8, tensor=4).strategy('zero3').memory
    seq = plan(seven, devices=32, fsdp=8, seq=4).strategy('zero3').memory
    assert tensor.parameters < base.parameters and seq.parameters == base.parameters
    assert tensor.logits == seq.logits == base.logits / 4
    assert seq.activations < tensor.activations < base.activations


def test_microbatches_hold_less_and_accumulate(seven: Config) -> None:
    parts = dataclasses.replace(seven, train=dataclasses.replace(seven.train, microbatches=8))
    whole, split = (plan(c, devices=8).strategy('zero2').memory for c in (seven, parts))
    assert split.activations == whole.activations / 8
    assert (whole.accumulator, split.accumulator) == (0, split.gradients)


def test_what_the_host_holds(seven: Config) -> None:
    base = plan(seven, devices=8, device_kind='v5e').strategy('zero3')
    off = override(seven, {'mesh.offload': 'optimizer', 'model.remat': 'offload'})
    moved = plan(off, devices=8, device_kind='v5e').strategy('zero3')
    assert moved.memory.optimizer == 0
    assert moved.memory.host_optimizer == base.memory.optimizer
    # Every layer's input, in bf16: a chip has 8 rows of 2048.
    assert moved.memory.host_activations == 2 * 32 * 8 * 2048 * 4096
    # The tables' moments and a layer's, both ways; the norms count for little.
    table, layer = 2 * 32_000 * 4096, 4 * 4096**2 + 3 * 4096 * 11_008
    assert moved.memory.fetched == pytest.approx(2 * 8 * (table + layer) / 8, rel=0.01)
    saved = base.memory.total - moved.memory.total
    assert saved > 0.9 * (moved.memory.host - moved.memory.fetched)
    copied = moved.memory.parameters * 4 + moved.memory.host_optimizer * 4
    assert moved.host_bytes == pytest.approx(copied + 4 * moved.memory.host)
    told = as_json(plan(off, devices=8, device_kind='v5e'))['zero3']
    assert told['offloaded_bytes'] == round(moved.memory.host)
    assert 'fetched_bytes' in told['estimates']
    text = as_text(plan(off, devices=8, device_kind='v5e'))
    assert 'with the host, for a device' in text and 'host is not counted' in text


def test_a_recipe_by_the_parameter_counts_no_activations_twice(seven: Config) -> None:
    memory = plan(seven, recipe='textbook').strategy('ddp').memory
    assert memory.total == 24 * 6_738_415_616


def test_advice(seven: Config) -> None:
    def told(kind: str = 'a100-80gb', **changes: object) -> str | None:
        return advice(plan(override(seven, changes), devices=64, device_kind=kind), 'zero3')

    assert 'fits' in str(told())
    assert 'change this first: train.microbatches=2' in str(told(**{'train.batch_size': 8192}))
    assert 'change this first: model.remat=dots' in str(
        told('a100-40gb', **{'model.remat': 'none', 'mesh.attention': 'xla'})
    )
    small = override(seven, {'model.num_layers': 26, 'train.batch_size': 16})
    assert 'change this first: mesh.offload=optimizer' in str(
        advice(plan(small, devices=8, device_kind='v5e'), 'zero3')
    )
    assert advice(plan(params=175e9, devices=64, device_kind='h100'), 'ddp') == (
        'does not fit (3,150 GB of 73.6 GB usable); '
        'change this first: mesh.strategy=zero3 (49.2 GB)'
    )
    alone = plan(params=70e9, device_kind='h100')
    assert 'change this first: zero3 on 32 devices' in str(advice(alone, 'ddp'))
    far = plan(params=1e12, device_kind='v5e')
    assert 'nor does any one change: use more devices' in str(advice(far, 'zero3'))
    assert advice(plan(params=1e9), 'ddp') is None


def test_a_fused_kernel_holds_no_scores(seven: Config) -> None:
    kept = override(seven, {'model.remat': 'none', 'train.batch_size': 8})
    for kind, name in (('h100', 'cudnn'), ('v5p', 'splash'), ('v100', 'xla')):
        one = plan(kept, devices=8, device_kind=kind)
        assert one.kernel.name == name
        scores = 32 * 32 * 2048 * 2048  # layers, heads, queries, keys
        held = plan(override(kept, {'mesh.attention': 'xla'}), devices=8, device_kind=kind)
        more = held.memory('zero3').activations - one.memory('zero3').activations
        assert (more > 5 * scores) == (name != 'xla')
    assert (
        plan(override(kept, {'precision.policy': 'fp32'}), device_kind='v5p').kernel.name == 'xla'
    )
    biased = plan(load_config('t5v11_base'), device_kind='v5p').kernel
    assert biased.name == 'xla' and 'bias' in biased.words
    with pytest.raises(UserError, match='mesh.attention=splash: splash attention needs a TPU'):
        plan(override(kept, {'mesh.attention': 'splash'}), device_kind='h100').memory('ddp')


def test_devices() -> None:
    for name, device in DEVICES.items():
        assert find_device(name.upper()) is device
        assert device.peaks in PEAKS and device.source
        assert device.peak('bfloat16') > device.peak('float32') > 0
        assert device.network <= device.link < device.bandwidth
    assert find_device('TPU v5p') is DEVICES['v5p']
    assert find_device('NVIDIA H100') is DEVICES['h100']
    assert DEVICES['h100'].peak('bfloat16') == peak_flops('NVIDIA H100 80GB HBM3', 'bfloat16')
    with pytest.raises(UserError, match='one of a100-40gb, a100-80gb'):
        find_device('A100')


def test_exported() -> None:
    assert lm.plan is plan
