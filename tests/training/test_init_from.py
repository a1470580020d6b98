"""Parameters from elsewhere: every kind of source, onto a split state, and what is told of them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import lm
from lm import UserError
from lm.config import CheckpointConfig, Config
from lm.data.mixture import Mixture, prepare_mixture
from lm.models.functional import functional
from lm.precision.policy import POLICIES
from lm.training import origin
from lm.training.checkpoint import Checkpoints
from lm.training.convert import convert
from lm.training.given import open_given
from lm.training.matched import matched
from lm.training.program import Program, build_program, resolve_policy
from lm.training.step import State
from lm.training.workdir import Workdir
from tests.hub import peers
from tests.training.runs import Runs

ZERO3 = {'mesh__devices': 8, 'mesh__strategy': 'zero3'}
ONE_LAYER = {'model__num_layers': 1}


def programmed(config: Config) -> tuple[Program, Mixture]:
    mixture = prepare_mixture(config.data, config.model.vocab_size)
    vocabulary = mixture.tokenizer.vocabulary
    model = config.model
    if model.vocab_size is None:
        model = dataclasses.replace(model, vocab_size=vocabulary.size)
    told = resolve_policy(dataclasses.replace(config, model=model))
    return build_program(told, vocabulary), mixture


def begun(config: Config) -> tuple[origin.Origin, Program]:
    program, mixture = programmed(config)
    return origin.fresh(program, mixture), program


def saved_run(config: Config, path: Path) -> Path:
    """A workdir with two checkpoints, without the training between them."""
    program, mixture = programmed(config)
    folder = Workdir(path)
    folder.create()
    folder.write_config(program.config)
    folder.write_tokenizer(mixture.tokenizer.files)
    checkpoints = Checkpoints(folder.checkpoints, CheckpointConfig())
    state = program.init_state()
    for step in (3, 5):
        moved = {name: x + 0.01 * step for name, x in state.params.items()}
        checkpoints.save(state._replace(params=moved, step=jax.numpy.int32(step)), {})
    checkpoints.close()
    return path


@pytest.fixture(scope='module')
def source(runs: Runs, tmp_path_factory: Any) -> Path:
    return saved_run(runs.config('llama', **ONE_LAYER), tmp_path_factory.mktemp('source') / 'run')


@pytest.fixture(scope='module')
def foreign(source: Path, tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp('foreign') / 'hf'
    convert(source, folder, None, 10**9)
    return folder


@pytest.fixture(scope='module')
def converted(foreign: Path, tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp('converted') / 'model'
    convert(foreign, folder, None, 10**9)
    return folder


def in_source(source: Path, step: int, size: int | None = None) -> dict[str, np.ndarray]:
    """Parameters of a checkpoint, read whole onto one device."""
    copy = open_given(f'{source}@{step}')
    config = Workdir(source).read_config()
    assert config is not None
    shapes = functional(config.model, POLICIES['fp32']).shapes
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for p, x in shapes.items()}
    return {path: np.asarray(x) for path, x in copy.read(config.model, like)[1].items()}


@pytest.mark.parametrize('kind', ['newest', '@3', 'converted', 'foreign'])
def test_every_kind_of_source_lies_split_and_is_the_same_to_the_bit(
    kind: str, source: Path, converted: Path, foreign: Path, runs: Runs
) -> None:
    text, place, more = {
        'newest': (str(source), f'{source}@5', {}),
        '@3': (f'{source}@3', f'{source}@3', {}),
        'converted': (str(converted), str(converted), {'model__vocab_multiple': 1}),
        'foreign': (str(foreign), str(foreign), {}),
    }[kind]
    if kind in ('converted', 'foreign'):
        more['data__tokenizer'] = text
    config = runs.config('llama', **ZERO3, **ONE_LAYER, checkpoint__init_from=text, **more)
    found, program = begun(config)
    want = in_source(source, 3 if kind == '@3' else 5)
    tokens = program.config.model.tokens
    shapes = program.abstract_state.params
    assert set(found.state.params) == set(want)
    for path, x in found.state.params.items():
        rows = slice(tokens) if 'V' in program.functional.dims[path] else slice(None)
        axis = program.functional.dims[path].find('V')
        cut = (slice(None),) * max(axis, 0) + (rows,)
        assert np.array_equal(np.asarray(x)[cut], want[path][cut]), path
        assert x.sharding == shapes[path].sharding
    split = found.state.params['decoder/layers/feed_forward/up']
    assert {shard.data.size * 8 for shard in split.addressable_shards} == {split.size}
    assert int(found.state.step) == 0
    assert all(not np.any(np.asarray(x)) for x in jax.tree.leaves(found.state.opt_state))
    assert found.changes == {'init_from': (None, place)}
    assert found.parameters['newly_initialised'] == found.parameters['ignored'] == []


def test_what_one_has_not_is_initialised_and_what_it_has_beyond_is_left(
    source: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    tied = {'model__options__tie_embeddings': True, 'model__options__qk_norm': True}
    config = runs.config('llama', **ZERO3, **ONE_LAYER, **tied, checkpoint__init_from=str(source))
    found, program = begun(config)
    fresh = program.init_state().params
    want = in_source(source, 5)
    new = [p for p in fresh if p not in want]
    assert len(new) == 2
    for path, x in found.state.params.items():
        same_as = fresh if path in new else want
        assert np.array_equal(np.asarray(x), np.asarray(same_as[path])), path
    assert found.parameters == {
        'loaded': [
            'decoder/final_norm/scale',
            *(f'decoder/layers/attention/{name}' for name in ('key', 'output', 'query', 'value')),
            'decoder/layers/attention_norm/scale',
            'decoder/layers/feed_forward/* (3 parameters)',
            'decoder/layers/feed_forward_norm/scale',
            'embedding/tokens',
        ],
        'newly_initialised': new,
        'ignored': ['head/output'],
    }
    told = capsys.readouterr().err
    assert f'begins     with parameters of {source}@5\n' in told
    assert f'new        {", ".join(new)}\n' in told
    assert 'ignored    head/output\n' in told
    assert 'note: model.options.tie_embeddings=True, and False in checkpoint.init_from=' in told


def zeros_of(config: Config, path: Path, **model: Any) -> Path:
    """A workdir whose parameters are all 0, for what depends on names and shapes alone."""
    told = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
    folder = Workdir(path)
    folder.create()
    folder.write_config(told)
    shapes = functional(told.model, POLICIES['fp32']).shapes
    params = {path: jax.numpy.zeros(x.shape, x.dtype) for path, x in shapes.items()}
    checkpoints = Checkpoints(folder.checkpoints, CheckpointConfig())
    checkpoints.save(State(params, (), jax.numpy.int32(7)), {})
    checkpoints.close()
    return path


def lists_of(text: Path, config: Config, **model: Any) -> dict[str, list[str]]:
    """What a model would begin with, without its text."""
    own = functional(dataclasses.replace(config.model, **model), POLICIES['fp32'])
    return matched(open_given(str(text)), own, own.shapes).lists()


def test_a_head_for_labels_is_another_than_one_for_words(runs: Runs, tmp_path: Path) -> None:
    config = runs.config('bert', model__vocab_size=40)
    before = zeros_of(config, tmp_path / 'words')
    lists = lists_of(before, config, head='sequence', num_labels=3)
    assert lists['newly_initialised'] == ['head/* (4 parameters)']
    assert lists['ignored'] == ['head/* (5 parameters)']
    # Nor where there happen to be as many labels as words.
    assert lists_of(before, config, head='sequence', num_labels=48) == lists
    assert lists['loaded'] == ['embedding/tokens', 'encoder/* (20 parameters)']
    # Of a run that tells as many labels apart the head comes too, of another number it does not.
    tuned = zeros_of(config, tmp_path / 'labels', head='sequence', num_labels=3)
    assert lists_of(tuned, config, head='sequence', num_labels=3)['newly_initialised'] == []
    lists = lists_of(tuned, config, head='sequence', num_labels=2)
    assert lists['newly_initialised'] == lists['ignored'] == ['head/bias', 'head/weight']
    assert 'head/pooler/* (2 parameters)' in lists['loaded']


def test_an_encoder_without_a_head_gets_one(runs: Runs, tmp_path: Path) -> None:
    peer = peers.peer('bert').bert
    pooled = peers.transformers.BertModel(peer.config, add_pooling_layer=True)
    pooled.load_state_dict(peer.state_dict(), strict=False)
    folder = peers.saved(pooled, tmp_path / 'hf')
    sizes = {
        'model__d_model': 32, 'model__num_heads': 4, 'model__d_ff': 56, 'model__max_positions': 48,
    }  # fmt: skip
    config = runs.config('bert', **sizes, model__vocab_size=peers.VOCABULARY)
    own = functional(config.model, POLICIES['fp32'])
    given = open_given(str(folder))
    found = matched(given, own, own.shapes)
    assert found.lists() == {
        'loaded': ['embedding/tokens', 'encoder/* (20 parameters)'],
        'newly_initialised': ['head/* (5 parameters)'],
        'ignored': ['bert.pooler.* (2 tensors)'],
    }
    # A head for labels of rows takes the pooler that the other has no use for.
    lists = lists_of(folder, config, head='sequence', num_labels=3)
    assert lists['newly_initialised'] == ['head/bias', 'head/weight']
    assert lists['ignored'] == []
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {
        path: jax.ShapeDtypeStruct(own.shapes[path].shape, np.float32, sharding=here)
        for path in found.loaded
    }
    name, params = given.read(own.config, like)
    assert name == str(folder)
    whole = lm.load(folder).params
    assert set(params) == set(whole)
    for path, x in whole.items():
        assert np.array_equal(np.asarray(params[path])[: len(x)], np.asarray(x)), path


@pytest.mark.parametrize(
    ('there', 'here', 'line'),
    [
        ({}, {'d_model': 64}, r'model\.d_model=64: the model in checkpoint\.init_from=\S+ has 32 '
         r'\(decoder/final_norm/scale is \[32\] there and \[64\] in this run\); set '
         r'--config\.model\.d_model=32$'),
        ({}, {'num_layers': 3}, r'model\.num_layers=3: .* has 2 \(decoder/layers/\S+ is \[2, '),
        ({}, {'vocab_size': 50}, r'model\.vocab_size=50: .* has 40 \(embedding/tokens is \[48, '),
        ({}, {'vocab_multiple': 1}, r'model\.vocab_multiple=1: .* has 16 \(embedding/tokens'),
        ({'d_ff': 128}, {'d_ff': None}, r'model\.d_ff=none: .* has 128 \(decoder/layers/feed_forw'),
    ],
)  # fmt: skip
def test_another_shape_is_one_line_with_the_flags_that_give_it(
    there: dict[str, Any], here: dict[str, Any], line: str, runs: Runs, tmp_path: Path
) -> None:
    config = runs.config('llama', model__vocab_size=40)
    run = zeros_of(config, tmp_path / 'run', **there)
    with pytest.raises(UserError, match=line) as error:
        lists_of(run, config, **here)
    assert '\n' not in str(error.value)


def test_nothing_in_common_is_refused(runs: Runs, tmp_path: Path) -> None:
    run = zeros_of(runs.config('gpt2', model__vocab_size=40), tmp_path / 'run')
    config = runs.config('bert', model__vocab_size=40)
    own = functional(config.model, POLICIES['fp32'])
    assert lists_of(run, config)['loaded'] == ['embedding/tokens']
    stack = {path: x for path, x in own.shapes.items() if path.startswith('encoder/')}
    with pytest.raises(UserError, match=r'a gpt2, of which a bert has no parameter; set model\.na'):
        matched(open_given(str(run)), own, stack)


def test_what_cannot_be_begun_with_is_refused_before_the_text_is_read(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unread(*args: Any, **words: Any) -> Any:
        raise AssertionError('the text was read')

    monkeypatch.setattr('lm.training.run.prepare_mixture', unread)
    config = runs.config('llama', model__vocab_size=40)
    run = zeros_of(config, tmp_path / 'run')
    empty = zeros_of(config, tmp_path / 'empty')
    shutil.rmtree(empty / 'checkpoints')
    (tmp_path / 'nothing').mkdir()
    (tmp_path / 'file').write_text('x')
    bert = peers.saved(peers.peer('bert'), tmp_path / 'bert')
    llama = peers.saved(peers.peer('llama'), tmp_path / 'llama')
    torn = Path(shutil.copytree(llama, tmp_path / 'torn'))
    (torn / 'model.safetensors').write_bytes(b'torn')
    for text, line in {
        f'{run}@8': 'no such checkpoint; there are 7',
        f'{tmp_path}/nowhere': 'does not exist',
        f'{tmp_path}/nowhere@7': 'does not exist',
        'x' * 300: 'does not exist',
        f'{tmp_path}/nothing': r'holds no run \(no config.json\)',
        f'{tmp_path}/file': 'is a file; give a workdir, WORKDIR@STEP or a Hugging Face folder',
        str(empty): 'has no checkpoint yet',
        str(bert): 'model.name=llama, and a bert there; set model.name=bert',
        str(llama): 'data.tokenizer=char would be trained anew, with other ids; set data.token',
        str(torn): 'model.safetensors',
    }.items():
        asked = runs.config('llama', checkpoint__init_from=text)
        for act in (lm.describe, lambda config: lm.train(config, tmp_path / 'new')):
            with pytest.raises(UserError, match=rf'^checkpoint\.init_from[=:].*{line}') as error:
                act(asked)
            assert '\n' not in str(error.value)
    with pytest.raises(UserError, match=r'^fork_from=\S+: brings all parameters; leave out check'):
        asked = runs.config('llama', checkpoint__init_from=str(run))
        lm.train(asked, tmp_path / 'new', fork_from=f'{run}@7')


def test_another_tokenizer_is_refused_and_none_is_told(
    source: Path, foreign: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / 'other.txt'
    other.write_text('other letters: xyz. ' * 2000)
    own = {'data__source': str(other), **ONE_LAYER}
    with pytest.raises(
        UserError, match=rf'was trained with another .* set data\.tokenizer={source}'
    ):
        begun(runs.config('llama', **own, checkpoint__init_from=str(source)))
    model = tmp_path / 'other.model'
    shutil.copy(runs_tokenizer(runs, own), model)
    with pytest.raises(
        UserError, match=rf'was trained with another .* set data\.tokenizer={foreign}$'
    ):
        begun(
            runs.config(
                'llama', **own, checkpoint__init_from=str(foreign), data__tokenizer=str(model)
            )
        )
    bare = Path(shutil.copytree(source, tmp_path / 'bare'))
    (bare / 'tokenizer.model').unlink()
    begun(runs.config('llama', **ONE_LAYER, checkpoint__init_from=str(bare)))
    assert 'bare: holds no tokenizer, so it is not known whether' in capsys.readouterr().err


def runs_tokenizer(runs: Runs, own: dict[str, Any]) -> Path:
    """The tokenizer of a config's text."""
    mixture = prepare_mixture(runs.config('llama', **own).data, None)
    file = runs.cache / 'other.model'
    file.write_bytes(mixture.tokenizer.files['tokenizer.model'])
    return file


def test_a_damaged_checkpoint_is_passed_over_but_where_it_is_named(
    source: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(source, tmp_path / 'run'))
    shutil.rmtree(run / 'checkpoints' / '5' / 'params')
    found, _ = begun(runs.config('llama', **ONE_LAYER, checkpoint__init_from=str(run)))
    assert found.changes == {'init_from': (None, f'{run}@3')}
    assert 'checkpoint 5 is damaged (' in capsys.readouterr().err
    with pytest.raises(UserError, match=r'checkpoint.init_from=\S+@5: checkpoint 5 is damaged'):
        begun(runs.config('llama', **ONE_LAYER, checkpoint__init_from=f'{run}@5'))


def test_a_run_tells_and_keeps_the_lists(
    source: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs.config('llama', **ONE_LAYER, checkpoint__init_from=str(source), train__steps=1)
    told = lm.describe(config)
    assert f'\nbegins     with parameters of {source}\nloaded     decoder/* (' in told
    lm.train(config, tmp_path / 'run')
    assert f'begins     with parameters of {source}@5\nloaded ' in capsys.readouterr().err
    [row] = Workdir(tmp_path / 'run').read_history()
    assert row['changes']['init_from'] == [None, f'{source}@5']
    assert row['parameters']['newly_initialised'] == []
