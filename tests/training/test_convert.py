"""`lm convert`, and the folders it makes in the hands of `lm` and of transformers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import lm
from launch.main import main
from lm.errors import UserError
from lm.training.convert import convert
from tests.data.corpora import corpus
from tests.hub import peers
from tests.hub.peers import torch, transformers
from tests.training.runs import Runs

GB = 10**9
STORY = (
    'Once upon a time, there was a little girl named Lily. She loved to play outside in the park. '
    'One day, she saw a big, red ball.'
)


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, float]:
    assert main(['evaluate', '--nooverlap', *words]) == 0
    scores: dict[str, float] = json.loads(capsys.readouterr().out)
    return scores


def test_a_run_has_the_same_loss_in_transformers(
    finished: Path, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'hf'
    assert main(['convert', f'--from={finished}', f'--to={folder}']) == 0
    assert f'{folder}: llama, ' in capsys.readouterr().out
    assert (folder / 'README.md').read_text().startswith('---\nlibrary_name: transformers\n')
    text = runs.text.read_text()[:600]
    (tmp_path / 'text.txt').write_text(text)
    ours = evaluated(capsys, f'--workdir={finished}', f'--text={tmp_path}/text.txt')
    again = evaluated(capsys, f'--hf={folder}', f'--text={tmp_path}/text.txt')
    assert again == ours

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model, found = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(found.values())
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)['input_ids']]
    nats, window = 0.0, int(ours['seq_len'])
    for start in range(0, len(ids) - 1, window):
        row = torch.tensor([ids[start : start + window + 1]])
        with torch.no_grad():
            logits = model(input_ids=row[:, :-1]).logits[0]
        nats += float(torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction='sum'))
    assert ours['tokens'] == len(ids) - 1
    assert nats / ours['tokens'] == pytest.approx(ours['loss'], rel=1e-5)
    assert nats / math.log(2) / len(text) == pytest.approx(ours['bits_per_byte'], rel=1e-5)


@pytest.mark.parametrize('family', ['gpt2', 'bert', 't5'])
def test_runs_of_other_families_have_the_same_logits_there(
    family: str, runs: Runs, tmp_path: Path
) -> None:
    runs.train(family, tmp_path / 'run', train__steps=2, eval__batches=1)
    convert(tmp_path / 'run', tmp_path / 'hf', None, GB)
    ours = lm.load(tmp_path / 'run')
    model_class = getattr(transformers, peers.CLASSES[family])
    theirs, found = model_class.from_pretrained(tmp_path / 'hf', output_loading_info=True)
    assert not any(found.values())
    tokens = np.random.default_rng(0).integers(4, ours.config.model.tokens, (2, 20))
    decoder = tokens[:, ::-1].copy() if family == 't5' else None
    want = peers.logits(theirs.eval(), tokens, np.ones_like(tokens), decoder)
    for model in (ours, lm.load(tmp_path / 'hf')):
        got = np.asarray(model.logits(tokens, decoder_tokens=decoder))[..., : want.shape[-1]]
        assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


@pytest.mark.parametrize('name', ['llama_3_1', 'bert', 't5'])
def test_a_foreign_folder_becomes_a_workdir_and_comes_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = peers.saved(peers.peer(name), tmp_path / 'theirs', torch.bfloat16)
    words = ['convert', f'--from={theirs}', f'--to={tmp_path}/run']
    assert main(words) == 0
    assert 'parameters in bfloat16, no tokenizer' in capsys.readouterr().out
    tokens = peers.rows(0, 2, 20)
    decoder = peers.rows(1, 2, 10) if name == 't5' else None
    direct, run = lm.load(theirs), lm.load(tmp_path / 'run')
    assert run.config.model == direct.config.model
    assert {str(array.dtype) for array in run.params.values()} == {'bfloat16'}
    assert np.array_equal(
        run.logits(tokens, decoder_tokens=decoder), direct.logits(tokens, decoder_tokens=decoder)
    )
    with pytest.raises(UserError, match='no tokenizer files came with this model'):
        _ = run.tokenizer
    convert(tmp_path / 'run', tmp_path / 'back', None, GB)
    files = [folder / 'model.safetensors' for folder in (theirs, tmp_path / 'back')]
    before, after = map(pytest.importorskip('safetensors.torch').load_file, files)
    assert set(before) == set(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_converted_model_begins_a_run_but_is_none(
    runs: Runs, tmp_path: Path, finished: Path
) -> None:
    convert(finished, tmp_path / 'hf', None, GB)
    convert(tmp_path / 'hf', tmp_path / 'model', None, GB)
    config = lm.load(tmp_path / 'model').config.model
    fields = {'model__vocab_multiple': 1, 'model__vocab_size': config.tokens}
    own = {'data__tokenizer': str(tmp_path / 'model'), 'train__steps': 1, **fields}
    with pytest.raises(UserError, match='holds a converted model, no run; give another workdir'):
        runs.train('llama', tmp_path / 'model', **own)
    runs.train(
        'llama', tmp_path / 'more', **own, checkpoint__init_from=str(tmp_path / 'model'),
        optim__peak_lr=1e-9,
    )  # fmt: skip
    before, after = lm.load(finished).params, lm.load(tmp_path / 'more').params
    cut = np.asarray(before['embedding/tokens'])[: config.tokens]
    assert np.allclose(after['embedding/tokens'], cut, atol=1e-6)


def test_a_damaged_record_costs_the_card_and_not_the_model(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (copy / 'metrics.jsonl').open('a') as file:
        file.write('torn\n')
    assert main(['convert', f'--from={copy}', f'--to={tmp_path}/hf']) == 0
    assert 'note: README.md, the model card, is not written: ' in capsys.readouterr().err
    assert not (tmp_path / 'hf' / 'README.md').exists()
    assert lm.load(tmp_path / 'hf').config.model.name == 'llama'


def test_stories260k_tells_a_story(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, tokenizer = corpus('checkpoints/stories260K.bin'), corpus('checkpoints/tok512.bin')
    words = [f'--from={checkpoint}', f'--to={tmp_path}/run', f'--tokenizer={tokenizer}']
    assert main(['convert', *words]) == 0
    assert 'llama, 260,032 parameters in float32, a tokenizer of 512 ids' in capsys.readouterr().out
    (tmp_path / 'story.txt').write_text(STORY)
    scores = evaluated(capsys, f'--workdir={tmp_path}/run', f'--text={tmp_path}/story.txt')
    assert scores['tokens'] == 44
    assert scores['loss'] == pytest.approx(0.3241, abs=1e-4)
    greedy = ['--prompt=', '--temperature=0', '--max_new_tokens=200']
    texts = []
    for model in (f'--workdir={tmp_path}/run', f'--hf={tmp_path}/hf'):
        if '--hf' in model:
            convert(tmp_path / 'run', tmp_path / 'hf', None, GB)
            capsys.readouterr()
        assert main(['generate', model, *greedy]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0].startswith('Once upon a time, there was a little girl named Lily.')
    assert texts[0] == texts[1]
    peer = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'hf')
    ids = peer.generate(torch.tensor([[1]]), max_new_tokens=200, do_sample=False, eos_token_id=2)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'hf')
    assert theirs.decode(ids[0], skip_special_tokens=True) + '\n' == texts[0]


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error with exit status 2."""
    assert main(words) == 2
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert captured.out == ''
    return line


def test_mistakes_are_told_in_one_line(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = peers.saved(peers.peer('gpt2'), tmp_path / 'theirs')
    (tmp_path / 'empty').mkdir()
    to = f'--to={tmp_path}/new'

    def refused(*words: str) -> str:
        return told(['convert', *words], capsys)

    assert refused('--from=/nowhere', to) == 'lm convert: --from=/nowhere: does not exist'
    assert 'holds no config.json' in refused(f'--from={tmp_path}/empty', to)
    assert '--to' in refused(f'--from={theirs}')
    assert '--to: cannot be written' in refused(f'--from={theirs}', '--to=' + 'x' * 300)
    assert '--from: cannot be read' in refused('--from=' + 'x' * 300, to)
    full = refused(f'--from={theirs}', f'--to={finished}')
    assert full.startswith(f'lm convert: --to={finished}: is there already and not empty')
    assert 'is there already' in refused(f'--from={theirs}', f'--to={theirs}/config.json')
    assert 'a run has its own' in refused(f'--from={finished}', to, '--tokenizer=x')
    assert '--shard_gb=-1.0: must be positive' in refused(f'--from={theirs}', to, '--shard_gb=-1')
    assert 'cannot be read' in refused(f'--from={theirs}', to, '--tokenizer=/no.model')
    weights = theirs / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:-10])
    assert 'model.safetensors: is cut short' in refused(f'--from={theirs}', to)
    assert not (tmp_path / 'new').exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'theirs']

    prompt = ['--prompt=x', '--max_new_tokens=1']
    for verb in (['generate', *prompt], ['evaluate', '--text=x']):
        if verb[0] == 'evaluate':
            (tmp_path / 'text').write_text('x')
            verb[1] = f'--text={tmp_path}/text'
        assert "--workdir: missing; give a run's folder, or --hf" in told(verb, capsys)
        both = [*verb, f'--hf={theirs}', f'--workdir={finished}']
        assert f'--hf={theirs}: give it or --workdir, not both' in told(both, capsys)
        assert 'hf=/nowhere: does not exist' in told([*verb, '--hf=/nowhere'], capsys)
        assert 'is no Hugging Face folder' in told([*verb, f'--hf={finished}'], capsys)
        assert 'is a Hugging Face folder' in told([*verb, f'--workdir={theirs}'], capsys)
