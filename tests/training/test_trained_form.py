"""What a model was trained to do goes with it into a Hugging Face folder and comes back."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import pytest

import lm
from launch.main import main
from lm.config import CheckpointConfig, Config
from lm.data.tokenizer import load_tokenizer
from lm.errors import UserError
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training.checkpoint import Checkpoints
from lm.training.convert import convert
from lm.training.step import State
from lm.training.workdir import Workdir
from tests.hub import peers
from tests.hub.peers import transformers
from tests.models.tiny import perturbed
from tests.training.runs import Runs

GB = 10**9
SEQ_LEN = 24
"""Shorter than `model.max_positions`, by which a foreign model is judged."""
FORMS = [
    ('llama', 'prefix_lm', {}),
    ('llama', 'ul2', {}),
    ('t5', 'ul2', {}),
    ('t5', 'denoising', {'objective__options__mean_span_length': 2.5}),
]


def run_of(
    family: str, objective: str, options: dict, finished: Path, runs: Runs, to: Path
) -> Config:
    """A workdir of a model that was not trained, whose logits differ widely."""
    rows = lm.load(finished).config.model.vocab_size
    own = {'objective__name': objective, 'train__seq_len': SEQ_LEN, 'model__vocab_size': rows}
    config = runs.config(family, **own, **options)
    config = dataclasses.replace(
        config, precision=dataclasses.replace(config.precision, policy='fp32')
    )
    model = functional(config.model, POLICIES['fp32'])
    checkpoints = Checkpoints(Workdir(to).checkpoints, CheckpointConfig())
    checkpoints.save(State(perturbed(model, noise=0.5), (), jnp.int32(0)), {})
    checkpoints.close()
    Workdir(to).write_config(config)
    Workdir(to).write_tokenizer(load_tokenizer(finished, rows).files)
    return config


def said(folder: Path, fill: bool) -> str:
    """Greedily, of a prompt of known letters."""
    prompt = 'tes<mask>d aoi<mask>b' if fill else 'tes ado'
    [text] = lm.generate(lm.load(folder), [prompt], max_new_tokens=12, temperature=0, fill=fill)
    return text


@pytest.mark.parametrize(('family', 'objective', 'options'), FORMS)
def test_a_folder_is_what_the_run_was(
    family: str, objective: str, options: dict, finished: Path, runs: Runs, tmp_path: Path
) -> None:
    config = run_of(family, objective, options, finished, runs, tmp_path / 'run')
    convert(tmp_path / 'run', tmp_path / 'hf', None, GB)
    convert(tmp_path / 'hf', tmp_path / 'back', None, GB)
    for folder in ('hf', 'back'):
        got = lm.load(tmp_path / folder).config
        assert (got.objective, got.train.seq_len) == (config.objective, SEQ_LEN)
    fill = family == 't5'
    text = said(tmp_path / 'run', fill)
    assert said(tmp_path / 'hf', fill) == text
    model_class = getattr(transformers, peers.CLASSES[family])
    _, found = model_class.from_pretrained(tmp_path / 'hf', output_loading_info=True)
    assert not any(found.values())
    (tmp_path / 'hf' / 'lm.json').unlink()
    # Taken for a causal model, or T5, it says something else: there was a form to keep.
    assert said(tmp_path / 'hf', fill) != text


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ('{', 'is not JSON ('),
        ('[]', 'must hold objective, with its name, and train, with its seq_len'),
        ({'train': {'seq_len': 8}}, 'must hold objective'),
        ({'objective': {'name': 'clm'}, 'train': {'seq_len': 8, 'steps': 3}}, 'and nothing else'),
        ({'objective': {'name': 'ul3'}, 'train': {'seq_len': 8}}, 'did you mean ul2?'),
        ({'objective': {'name': 'mlm'}, 'train': {'seq_len': 8}}, 'is of the decoder family'),
        (
            {'objective': {'name': 'clm', 'options': {'rate': 1}}, 'train': {'seq_len': 8}},
            'objective.options.rate: no such field',
        ),
        ({'objective': {'name': 'clm'}, 'train': {'seq_len': 9999}}, 'train.seq_len=9999: longer'),
        (
            {'objective': {'name': 'clm'}, 'train': {'seq_len': '8'}},
            "train.seq_len='8': must be int",
        ),
    ],
)
def test_a_record_that_was_tampered_with_is_one_line(
    content: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = peers.saved(peers.peer('llama'), tmp_path / 'theirs')
    (theirs / 'lm.json').write_text(content if isinstance(content, str) else json.dumps(content))
    for call in (
        ['generate', f'--hf={theirs}', '--prompt=x'],
        ['convert', f'--from={theirs}', f'--to={tmp_path}/new'],
    ):
        assert main(call) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f'lm {call[0]}: {theirs}/lm.json: ')
        assert words in line
    with pytest.raises(UserError):
        lm.load(theirs)
