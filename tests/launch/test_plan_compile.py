"""`lm plan --compile`: the compiler's word beside the plan's, and one line on every mistake."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import lm
from launch.main import main
from lm.planning.compiled import CompiledStep, compile_step
from lm.planning.plan import plan
from lm.training.lowering import lower_step
from lm.training.program import build_program
from lm.vocabulary import placeholder
from tests.training.test_state_bytes import held

ROOT = Path(__file__).parent.parent.parent
SIZES = {
    'model.vocab_size': 1024, 'model.num_layers': 2, 'model.d_model': 64, 'model.d_ff': 128,
    'model.num_heads': 4, 'model.scan_layers': True, 'train.batch_size': 16, 'train.seq_len': 64,
}  # fmt: skip
CONFIG = ['--config=llama_tiny', *(f'--config.{name}={value}' for name, value in SIZES.items())]


def test_json_of_a_process_of_its_own() -> None:
    environment = {name: v for name, v in os.environ.items() if name != 'XLA_FLAGS'}
    words = ['--compile', '--devices=4', '--strategy=ddp,zero3', '--device_kind=h100', '--json']
    done = subprocess.run(
        [sys.executable, '-m', 'launch', 'plan', *CONFIG, *words],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'ddp    fits' in done.stderr and 'zero3  fits' in done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ['ddp', 'zero3']
    config = lm.load_config('llama_tiny', **SIZES, **{'precision.policy': 'fp32'})
    for strategy, one in found.items():
        mesh = {'mesh.strategy': strategy, 'mesh.devices': 4}
        laid = lm.load_config('llama_tiny', **SIZES, **{'precision.policy': 'fp32'}, **mesh)
        program = build_program(laid, placeholder(1024))
        batch = 5 * 4 * (16 // 4) * 64
        assert one['argument_bytes'] == {*held(program.init_state()).values()}.pop() + batch
        assert one['padding_bytes'] == 0
        planned = plan(config, devices=4).memory(strategy).total
        assert one['planned_bytes_per_chip'] == round(planned)
        assert one['hbm_bytes_per_chip'] == pytest.approx(planned, rel=0.3)
        assert one['compiled'] and one['fits'] is True and one['compile_seconds'] > 0
        peak = one['argument_bytes'] + one['output_bytes'] + one['temp_bytes']
        assert one['hbm_bytes_per_chip'] == peak - one['aliased_bytes']
    assert set(found['ddp']['collectives']) == {'all-reduce'}
    entries = sum(int(np.prod(x.shape)) for x in program.functional.shapes.values())
    gathered = found['zero3']['collectives']['all-gather']
    assert gathered['times'] > gathered['count']  # in the loops over layers
    assert 4 * entries < gathered['bytes'] < 2.2 * 4 * entries


@pytest.mark.parametrize(
    ('name', 'strategy', 'changes'),
    [
        ('llama', 'zero3', {'model.remat': 'full', 'train.microbatches': 2}),
        ('gpt2', 'zero1', {'model.remat': 'dots', 'train.batch_size': 64}),
        ('bert', 'ddp', {'model.remat': 'none', 'train.batch_size': 64}),
        ('t5', 'zero2', {'model.remat': 'full', 'train.batch_size': 64}),
        ('llama', 'zero1', {'model.remat': 'offload', 'mesh.offload': 'optimizer'}),
    ],
)
def test_peak_of_the_step_that_trains(name: str, strategy: str, changes: dict[str, object]) -> None:
    base = {'llama': 'llama_tiny', 'gpt2': 'gpt2_124m', 'bert': 'bert_tiny', 't5': 't5_tiny'}[name]
    sizes = {**SIZES, 'model.max_positions': 128, 'precision.policy': 'fp32', **changes}
    config = lm.load_config(base, **{**sizes, 'mesh.strategy': strategy})
    found = compile_step(lower_step(config, jax.devices()))
    assert isinstance(found, CompiledStep)
    assert found.arguments == found.unpadded
    planned = plan(config, devices=8).memory(strategy)  # type: ignore[arg-type]
    total = planned.total + planned.host  # to XLA:CPU the host's memory is the device's
    share = (planned.activations + planned.logits) / total
    print(f'{name} {strategy}: {total / found.peak:.2f}, activations {share:.2f}')
    assert total == pytest.approx(found.peak, rel=0.3)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    words = ['--compile', '--devices=2', '--strategy=zero2']
    assert main(['plan', *CONFIG, *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith('zero2: ') and 'all-gather' in out and 'arguments' in out
    assert max(map(len, out.splitlines())) < 130


def test_what_is_far_from_fitting_is_said_and_not_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jax.stages.Lowered, 'compile', lambda *_: pytest.fail('compiled'))
    words = ['--config=llama_7b', '--devices=8', '--device_kind=v5e', '--compile', '--json']
    assert main(['plan', *words]) == 0
    captured = capsys.readouterr()
    for strategy, one in json.loads(captured.out).items():
        assert (one['compiled'], one['fits'], one['hbm_bytes_per_chip']) == (False, False, None)
        assert f'{strategy:<6} does not fit' in captured.err
        assert one['planned_bytes_per_chip'] > 16e9


def test_a_compiler_that_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Used 23.50G of 15.75G hbm.')

    monkeypatch.setattr(jax.stages.Lowered, 'compile', refuse)
    words = [*CONFIG, '--compile', '--strategy=ddp']
    assert main(['plan', *words, '--json']) == 0
    found = json.loads(capsys.readouterr().out)['ddp']
    assert (found['fits'], found['hbm_bytes_per_chip']) == (False, round(23.5 * 2**30))
    assert main(['plan', *words]) == 0
    assert 'it needs 25.2 GB of 16.9 GB' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (
            ['--params=1e9', '--compile'],
            '--params: a number of parameters has no step to compile; give --config',
        ),
        (['--config=gpt2_124m', '--topology=v5e'], '--topology=v5e: must be KIND:CHIPSxCHIPS'),
        (['--config=gpt2_124m', '--topology=v9:2x2'], '--topology=v9:2x2: v9 is not in the table'),
        (
            ['--config=gpt2_124m', '--topology=v5e:2x4', '--devices=4'],
            '--devices=4: v5e:2x4 has 8; leave it out',
        ),
        (
            ['--config=gpt2_124m', '--topology=v5e:2x4', '--device_kind=v5p'],
            '--device_kind=v5p: v5e:2x4 has v5e; leave it out',
        ),
        (
            ['--config=gpt2_124m', '--device_kind=h1', '--compile'],
            '--device_kind=h1: not in the table; one of h100',
        ),
        (['--config=gpt2_124m', '--strategy=zero3'], '--strategy: chooses what --compile compiles'),
        (
            ['--config=gpt2_124m', '--strategy=zero4', '--compile'],
            '--strategy=zero4: must be of ddp, zero1, zero2, zero3',
        ),
        (
            ['--config=quickstart', '--config.model.vocab_size=none', '--compile'],
            'model.vocab_size: unset; give it, or a tokenizer',
        ),
        (
            [*CONFIG, '--compile', '--devices=16'],
            '--devices=16: jax has started with 8 CPU devices',
        ),
        (
            ['--config=gpt2_124m', '--config.mesh.fsdp=4', '--devices=4'],
            "--config.mesh.fsdp: a plan's axes are flags; give --fsdp",
        ),
    ],
)
def test_a_users_error_is_one_line_and_status_2(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['plan', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.startswith(f'lm plan: {line}')
    assert captured.err.count('\n') == 1


def test_without_the_cuda_plugin_or_its_tools_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError('topology not implemented for cuda')

    monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', refuse)
    assert main(['plan', *CONFIG, '--topology=h100:2x4', '--compile']) == 2
    assert capsys.readouterr().err == (
        'lm plan: --topology=h100:2x4: needs jax-cuda13-plugin, which is not installed: pip '
        "install 'lm-lab[cuda13]'\n"
    )

    def lacking(*_: object) -> None:
        raise jax.errors.JaxRuntimeError('INTERNAL: libdevice not found at ./libdevice.10.bc')

    monkeypatch.setattr(jax.stages.Lowered, 'compile', lacking)
    assert main(['plan', *CONFIG, '--compile', '--strategy=ddp']) == 2
    assert capsys.readouterr().err == (
        "lm plan: --compile: needs CUDA's ptxas and libdevice, which are not installed: pip "
        "install 'lm-lab[cuda13]'\n"
    )


def test_without_libtpu_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError('JAX TPU support not installed')

    monkeypatch.setattr('jax.experimental.topologies.get_topology_desc', refuse)
    assert main(['plan', *CONFIG, '--topology=v5e:2x4', '--compile']) == 2
    assert capsys.readouterr().err == (
        'lm plan: --topology=v5e:2x4: needs libtpu, which is not installed: pip install '
        "'lm-lab[tpu]'\n"
    )
