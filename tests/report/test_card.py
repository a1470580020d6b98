"""The card: YAML that the hub's own package takes, and nothing that the run did not tell."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from launch.main import main
from lm.report.card import card
from lm.report.card_metadata import Given
from lm.report.recorded import Recorded, read_runs
from lm.training.workdir import Workdir, write_json
from tests.report.folders import write_run
from tests.report.test_page import SUMMARY

hub = pytest.importorskip('huggingface_hub', reason='needs huggingface_hub, of the extra test')


def account(tokens: int) -> dict[str, Any]:
    return {
        'source_sha256': 'abc123',
        'documents': {
            'read': 10, 'trained_on': 8, 'held_out': 1, 'split': 2, 'dropped': 1,
            'dropped_why': {'empty': 1},
        },
        'tokens': {
            'read': tokens, 'trained_on': tokens - 7, 'targets': 5, 'padded': 0, 'truncated': 0,
            'dropped': 7, 'repeated': 3,
        },
        'epochs': 1.5,
        'tokenizer': {'kind': 'bpe', 'ids': 500, 'sha256': 'def456', 'lossless': True},
    }  # fmt: skip


def ended(path: Path, sources: tuple[str, ...], **overrides: Any) -> Recorded:
    """A run on some sources, with an account and scores of each."""
    data = {name: account(1000 * i) for i, name in enumerate(sources, 1)}
    by_source = {
        name: {'loss': 5 + i, 'targets': 9, 'bits_per_byte': 2.5 + i}
        for i, name in enumerate(sources)
    }
    summary = {**SUMMARY, 'data': data, 'params_sha256': 'fed987'}
    if len(sources) > 1:
        summary['eval_by_source'] = by_source
        overrides['data__sources'] = sources
    else:
        overrides['data__source'] = sources[0]
    write_run(path, losses=[6.0, 5.5, 5.0, 4.5], held_out=[(4, 5.25)], summary=summary, **overrides)
    return read_runs([str(path)])[0]


def parsed(text: str) -> Any:
    """The YAML as the hub's package reads it; its model-index is that package's own, unchanged."""
    read = hub.ModelCard(text)
    tree = yaml.safe_load(text.split('---\n')[1])
    if 'model-index' in tree:
        assert read.data.to_dict()['model-index'] == tree['model-index']
    return read.data


def test_the_hub_reads_what_the_run_measured(tmp_path: Path) -> None:
    run = ended(tmp_path / 'mine', ('texts/law.txt', 'hf:wikitext:wikitext-2:train'))
    text = card(run, Given('apache-2.0', ('en', 'de')))
    data = parsed(text)
    assert (data.license, data.language, data.model_name) == ('apache-2.0', ['en', 'de'], 'mine')
    assert data.library_name == 'transformers'
    assert data.pipeline_tag == 'text-generation'
    assert data.datasets == ['wikitext']
    assert data.tags == ['lm', 'jax', 'llama', 'clm']
    assert data.base_model is None
    found = [(r.dataset_type, r.metric_type, r.metric_value) for r in data.eval_results]
    assert found == [
        ('law.txt', 'loss', 5), ('law.txt', 'bits_per_byte', 2.5),
        ('wikitext', 'loss', 6), ('wikitext', 'bits_per_byte', 3.5),
    ]  # fmt: skip
    hub.ModelCard(text).data.eval_results[0].unique_identifier  # noqa: B018
    assert '| `law.txt` | 10 | 8 | 1 | 1 | 1,000 | 993 | 7 | 3 | 1.5 | `abc123` |' in text
    assert '- `law.txt`: 1 documents dropped: empty\n' in text
    assert 'Tokenizer: bpe, 500 ids' in text
    assert '1 PF-days' in text
    assert '| law.txt: bits per byte | 2.5 |' in text
    assert '- Initialised at random, and trained in this run alone.\n' in text
    assert 'licence: none' not in text
    assert str(tmp_path) not in text


def test_measures_of_a_task_are_results(tmp_path: Path) -> None:
    run = ended(tmp_path / 'run', ('a.jsonl',))
    assert run.summary is not None
    measured = {**run.summary, 'bits_per_byte': None, 'measures': {'accuracy': 0.75}}
    write_json(run.folder.summary_file, measured)
    data = parsed(card(read_runs([str(tmp_path / 'run')])[0], Given()))
    assert [(r.metric_type, r.metric_value) for r in data.eval_results] == [
        ('loss', 5.25), ('accuracy', 0.75),
    ]  # fmt: skip
    assert data.license is None


def test_what_a_run_began_with_and_changed_on_the_way(tmp_path: Path) -> None:
    run = ended(tmp_path / 'run', ('stdlib',))
    lists = {'loaded': ['encoder/* (9 parameters)'], 'newly_initialised': [], 'ignored': ['head/*']}
    run.folder.add_history(0, {'init_from': (None, '/home/me/bert-small')}, lists)
    run.folder.add_history(3, {'train.steps': (2, 4)})
    run.folder.add_history(4, {'eval.sources': ([], ['/home/me/other.txt'])})
    text = card(run, Given())
    assert parsed(text).base_model == 'bert-small'
    assert (
        '- Begun with parameters of `bert-small`.\n- loaded: `encoder/* (9 parameters)`\n' in text
    )
    assert '- newly initialised: none\n- ignored: `head/*`\n' in text
    assert '- From step 3 on `train.steps` was 4, before 2.\n' in text
    assert "- From step 4 on `eval.sources` was ['other.txt'], before [].\n" in text
    assert 'at random' not in text
    assert '/home/me' not in text
    for line in ('The licence: none was given.', 'The language of the text: it was not given.'):
        assert f'- {line}\n' in text


def test_an_unfinished_run_says_so_and_a_converted_model_too(tmp_path: Path) -> None:
    path = write_run(tmp_path / 'run', losses=[6.0, 5.0], held_out=[(1, 5.5), (2, 5.25)])
    [run] = read_runs([str(path)])
    text = card(run, Given())
    assert parsed(text).eval_results is None
    assert '**This run has not ended: the figures below are those so far.**' in text
    assert 'On a part of it, at step 2: 5.25 nats per target token.' in text
    assert '- No summary.json: the figures are those of the last rows so far.\n' in text
    converted = Workdir(write_run(tmp_path / 'model'))
    write_json(converted.conversion_file, {'from': '/x/pythia-14m'})
    [model] = read_runs([str(converted.path)])
    text = card(model, Given())
    data = parsed(text)
    assert (data.base_model, data.datasets, data.tags) == (
        'pythia-14m',
        None,
        ['lm', 'jax', 'llama'],
    )
    for section in ('Training data', 'Training procedure'):
        assert f'## {section}\n\nNot known: the model was trained elsewhere.\n' in text
    assert 'optim.' not in text and 'train.' not in text
    assert '- Converted from `pythia-14m`; its training is not recorded here.' in text


def test_the_verb_writes_it_once_and_refuses_in_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, out = ended(tmp_path / 'run', ('stdlib',)).folder.name, tmp_path / 'README.md'
    assert main(['card', run, '--language=en,pt-BR']) == 0
    printed = capfd.readouterr().out
    assert parsed(printed).language == ['en', 'pt-BR']
    assert main(['card', run, '--language=en,pt-BR', f'--out={out}']) == 0
    assert capfd.readouterr().out == f'{out}\n'
    assert out.read_text() == printed
    for words, line in {
        (run, f'--out={out}'): f'--out={out}: is there already; give another, or remove it',
        (run, '--out=x.html'): '--out=x.html: must end in .md',
        (run, '--language=en;de'): "--language=en;de: 'en;de' is no code",
        (): 'WORKDIR: 0 given; give the folder of one run',
        (run, run): 'WORKDIR: 2 given',
        (str(tmp_path),): 'holds no run (no config.json)',
        (f'{tmp_path}/none',): 'none: does not exist',
    }.items():
        assert main(['card', *words]) == 2
        captured = capfd.readouterr()
        assert captured.out == ''
        assert captured.err.count('\n') == 1
        assert line in captured.err
