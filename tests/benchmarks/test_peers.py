"""Contenders do the same work, and the command tells their figures."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from benchmarks._cases import CASES, Case, lm_config, noise_rate
from benchmarks.contenders import serves
from lm.errors import UserError
from lm.objectives._objective import build_objective
from lm.planning.counts import count_parameters
from lm.planning.parameters import model_shape
from lm.vocabulary import placeholder

ROOT = Path(__file__).parent.parent.parent
TINY = {
    'layers': 1, 'width': 32, 'heads': 2, 'kv_heads': 2, 'feed_forward': 64, 'vocabulary': 512,
    'rows': 1, 'seq_len': 32,
}  # fmt: skip


def tiny(name: str) -> Case:
    decoder_len = 9 if CASES[name].decoder_len else None
    return dataclasses.replace(CASES[name], **TINY, decoder_len=decoder_len)


@pytest.mark.parametrize('name', ['llama_20m', 'bert_20m', 't5_20m', 'gpt2_124m'])
def test_sizes_are_those_of_transformers(name: str) -> None:
    torch = pytest.importorskip('torch', reason='the extra peers is not installed')
    pytest.importorskip('transformers', reason='the extra peers is not installed')
    from benchmarks.contenders.hf_eager import hugging_face

    case = tiny(name)
    ours = count_parameters(model_shape(lm_config(case).model)).total
    steps = hugging_face(case, compiled=False)
    assert steps.facts['params'] == ours
    steps.take(1)
    assert all(torch.isfinite(p).all() for p in steps.model.parameters())


def test_sizes_of_the_plain_models() -> None:
    from benchmarks.contenders import bare

    case = tiny('llama_20m')
    made = jax.eval_shape(lambda: bare.init(case, jax.random.key(0)))
    count = count_parameters(model_shape(lm_config(case).model)).total
    assert sum(x.size for x in made.values()) == count
    pytest.importorskip('torch', reason='the extra peers is not installed')
    from benchmarks.contenders import nanogpt_like

    case = tiny('gpt2_124m')
    model = nanogpt_like.GPT(case)
    count = count_parameters(model_shape(lm_config(case).model)).total
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize('name', CASES)
def test_rows_have_the_lengths_of_the_case(name: str) -> None:
    case, config = CASES[name], lm_config(CASES[name])
    target_len = build_objective(config, placeholder(config.model.tokens)).target_len
    assert target_len == (case.decoder_len or case.seq_len)
    assert config.train.batch_size * config.train.seq_len == case.tokens
    assert config.model.dropout == 0


def test_decoder_that_spans_cannot_fill() -> None:
    with pytest.raises(UserError, match='decoder_len=63'):
        noise_rate(256, 63)


def test_each_family_has_the_contenders_that_know_it() -> None:
    assert not serves('bare', CASES['bert_base']) and serves('bare', CASES['llama_1b'])
    assert not serves('nanogpt_like', CASES['llama_1b']) and serves('hf_eager', CASES['bert_base'])


def command(*words: str) -> subprocess.CompletedProcess[str]:
    sizes = [f'--{name}={size}' for name, size in TINY.items()]
    return subprocess.run(
        [sys.executable, '-m', 'benchmarks.peers', *sizes, *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_command(tmp_path: Path) -> None:
    out = tmp_path / 'found.jsonl'
    ran = command(
        '--case=llama_20m', '--contenders=bare,lm', '--rounds=2', '--seconds=0.01', f'--out={out}',
        '--config.model.scan_layers=true',
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert json.loads(out.read_text()) == found
    assert found['failed'] == {}
    ours, bare = found['contenders']['lm'], found['contenders']['bare']
    assert ours['scan_layers'] is True
    assert ours['tokens_per_second'] == pytest.approx(32 / ours['step_ms'] * 1e3)
    assert found['ratios']['bare'][0] == pytest.approx(bare['step_ms'] / ours['step_ms'])
    assert len(ours['step_ms_of_rounds']) == 2


def test_mistakes() -> None:
    for words, told in (
        (['--case=llama_20n'], '--case=llama_20n'),
        (['--case=bert_20m', '--contenders=bare'], 'none of them has a bert'),
        (['--case=llama_20m', '--config.model.num_layer=2'], 'did you mean'),
    ):
        ran = command(*words)
        assert ran.returncode == 2 and told in ran.stderr and ran.stderr.count('\n') == 1
