"""The transfer study, whole, on a tiny encoder; and that torch's side goes its own way."""

import json
from pathlib import Path

import numpy as np
import pytest

import lm
from experiments.transfer import Setting, analyze, configs, main
from tests.training.runs import CONFIG

pytest.importorskip('torch')
pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled texts and tags, and an encoder that was trained for a moment on the words."""
    made = tmp_path_factory.mktemp('transfer')
    words = [f'{a}{b} film' for a in 'abcd' for b in 'abcd']
    labelled = [{'text': text, 'label': text[0]} for text in words * 3]
    tagged = [{'tokens': text.split(), 'tags': ['B-x', 'O']} for text in words * 3]
    for name, records in (('text', labelled), ('tags', tagged)):
        (made / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, records)))
    (made / 'words.txt').write_text('\n'.join(words * 20))
    settings = {
        'data.source': str(made / 'words.txt'),
        'data.cache_dir': str(made / 'cache'),
        'model.vocab_multiple': 1,
        'train.steps': 6,
    }
    lm.train(lm.load_config(f'{CONFIG}:bert', **settings), made / 'encoder')
    return made


@pytest.mark.parametrize(
    ('objective', 'source', 'measure'),
    [
        ('sequence_classification', 'text', 'accuracy'),
        # Four runs and two of torch's: half a minute.
        pytest.param('token_classification', 'tags', 'entity_f1', marks=pytest.mark.slow),
    ],
)
def test_the_whole_of_it(
    objective: str,
    source: str,
    measure: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [
        f'--objective={objective}', f'--source={folder}/{source}.jsonl', '--torch', '--seeds=2',
        f'--init_from={folder}/encoder', f'--workdir={tmp_path}/runs', '--seq_len=16',
        '--batch_size=8', '--epochs=2', f'--validation_source={folder}/{source}.jsonl',
    ]  # fmt: skip
    monkeypatch.setenv('LM_CACHE', str(folder / 'cache'))
    monkeypatch.setattr('sys.argv', ['transfer', *words])
    assert main() == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert {'pretrained', 'scratch', 'torch', 'gap_to_scratch', 'gap_to_torch'} <= {*told}
    assert told['largest_loss_difference_in_50_steps'] < 1e-4
    ours = json.loads((tmp_path / 'runs' / 'pretrained-seed0' / 'summary.json').read_text())
    theirs = json.loads((tmp_path / 'runs' / 'torch-seed0.json').read_text())
    assert ours['measures'][measure] == pytest.approx(theirs['measures'][measure])
    assert len(theirs['losses']) == ours['steps'] == 12
    # Of another seed the rows come in another order.
    other = json.loads((tmp_path / 'runs' / 'torch-seed1.json').read_text())
    assert not np.allclose(theirs['losses'], other['losses'], atol=1e-4)


def test_gaps_are_between_runs_of_a_seed(tmp_path: Path) -> None:
    scores = {'pretrained': (0.8, 0.9), 'scratch': (0.5, 0.7)}
    for arm, found in scores.items():
        for seed, score in enumerate(found):
            (tmp_path / f'{arm}-seed{seed}').mkdir()
            summary = {'measures': {'accuracy': score, 'macro_f1': 0.0}}
            (tmp_path / f'{arm}-seed{seed}' / 'summary.json').write_text(json.dumps(summary))
    told = analyze(tmp_path, Setting(seeds=2))
    assert told['pretrained']['mean'] == pytest.approx(0.85)
    gap = told['gap_to_scratch']
    assert gap['mean'] == pytest.approx((0.3 + 0.2) / 2)
    # Student's of two differences, .3 and .2: 12.71 of the mean's error, .05.
    assert gap['high'] - gap['low'] == pytest.approx(2 * 12.706 * 0.05, rel=1e-3)


def test_arms_differ_in_where_they_begin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LM_CACHE', str(folder / 'cache'))
    study = Setting(
        source=str(folder / 'text.jsonl'), init_from=str(folder / 'encoder'), seeds=1, seq_len=16
    )
    pretrained, scratch = configs(study).values()
    assert pretrained.checkpoint.init_from and not scratch.checkpoint.init_from
    assert pretrained.train == scratch.train and pretrained.model == scratch.model
