"""Runs on a mixture: resumed to the bit, counted by source, evaluated by source."""

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lm
from launch.main import main
from lm.data.mixture import Mixture, prepare_mixture
from lm.errors import UserError
from lm.training.evaluate import mixed_rows, packed_rows
from lm.training.program import build_objective
from tests.data.corpora import words
from tests.training.runs import CONFIG, Runs, read_rows, same_run

WEIGHTS = (0.6, 0.3, 0.1)


@pytest.fixture(scope='module')
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Three sources: one document, many documents, and one that is soon exhausted."""
    folder = tmp_path_factory.mktemp('texts')
    (folder / 'one.txt').write_text(words(9000))
    (folder / 'many').mkdir()
    for i in range(30):
        (folder / 'many' / f'{i}.txt').write_text(
            f'Number {i}: ' + words(120, seed=i).upper().replace('E', 'É')
        )
    (folder / 'short.txt').write_text('0123456789 ' * 50)
    return tuple(str(folder / name) for name in ('one.txt', 'many', 'short.txt'))


class Mixed(Runs):
    """Runs on the three sources."""

    def __init__(self, texts: tuple[str, ...], cache: Path):
        super().__init__(Path('stdlib'), cache)
        self.texts = texts

    def config(self, family: str, **overrides: Any) -> Any:
        mixture = {'data__sources': self.texts, 'data__weights': WEIGHTS}
        return super().config(family, **{**mixture, **overrides})


@pytest.fixture(scope='module')
def mixed(texts: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return Mixed(texts, tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def finished(mixed: Mixed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 24 steps."""
    workdir: Path = tmp_path_factory.mktemp('finished') / 'run'
    mixed.train('llama', workdir)
    return workdir


def summary_of(workdir: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((workdir / 'summary.json').read_text())
    return summary


def test_the_account_of_each_source_is_what_its_rows_hold(finished: Path, mixed: Mixed) -> None:
    config = mixed.config('llama')
    mixture = prepare_mixture(config.data, None)
    objective = build_objective(config, mixture.tokenizer.vocabulary)
    alone = [
        packed_rows(objective, part, config.train.seed, held_out=False) for part in mixture.parts
    ]
    rows = mixed_rows(objective, mixture, config.train.seed)
    tokens: list[Counter[str]] = [Counter() for _ in alone]
    documents: list[set[int]] = [set() for _ in alone]
    for i in range(24 * 8):
        row = rows.row(i)
        # Found by its content, not by asking whose turn it was.
        source = next(
            k
            for k, of in enumerate(alone)
            if (of.row(tokens[k]['rows']).tokens == row.tokens).all()
        )
        batch = objective.example(row, np.random.default_rng(0))
        documents[source] |= {int(d) for d in row.documents} - {-1}
        tokens[source] += Counter(
            rows=1,
            trained_on=int((row.segment_ids > 0).sum()) - 1,  # its first one the row before had
            targets=int(batch.loss_weights.sum()),
            padded=int((batch.segment_ids == 0).sum()),
        )
    summary = summary_of(finished)
    assert [*summary['data']] == list(mixed.texts)
    for name, counted, seen, share in zip(mixed.texts, tokens, documents, WEIGHTS, strict=True):
        account = summary['data'][name]
        assert account['share'] == pytest.approx(share)
        assert account['rows'] == counted['rows']
        assert abs(account['rows'] - share * 192) < 1
        assert account['documents']['trained_on'] == len(seen)
        for key in ('trained_on', 'targets', 'padded'):
            assert account['tokens'][key] == counted[key], key
        assert account['tokens']['read'] == counted['trained_on']
        assert (account['tokens']['dropped'], account['tokens']['truncated']) == (0, 0)
    one, _, short = (summary['data'][name]['tokens'] for name in mixed.texts)
    assert one['repeated'] == 0
    assert 0 < short['repeated'] < short['read']
    for kind in ('documents', 'tokens'):
        for key, value in summary['data_total'][kind].items():
            assert value == sum(a[kind][key] for a in summary['data'].values())
    assert summary['data_total']['tokens']['read'] == sum(c['trained_on'] for c in tokens)


@pytest.mark.parametrize('family', ['llama', 'bert'])
def test_each_source_is_evaluated_as_if_alone(family: str, mixed: Mixed, tmp_path: Path) -> None:
    run = tmp_path / 'run'
    mixed.train(family, run, train__steps=4, eval__every_steps=2)
    summary = summary_of(run)
    [early, whole] = read_rows(run / 'eval.jsonl')
    assert early['by_source'].keys() == whole['by_source'].keys() == set(mixed.texts)
    assert whole['by_source'] == summary['eval_by_source']
    for row in (early, whole):
        parts = [row['by_source'][name] for name in mixed.texts]
        mean = sum(w * part['loss'] for w, part in zip(WEIGHTS, parts, strict=True))
        assert row['loss'] == pytest.approx(mean, rel=1e-12)
        assert row['targets'] == sum(part['targets'] for part in parts)
    # A run on one source alone that begins, and with a rate next to nothing ends, with these
    # parameters.
    for name in mixed.texts if family == 'llama' else mixed.texts[1:2]:
        alone = mixed.train(
            family, tmp_path / Path(name).stem, data__sources=None, data__weights=None,
            data__source=name, data__tokenizer=str(run / 'tokenizer.model'), train__steps=1,
            checkpoint__init_from=str(run), optim__peak_lr=1e-30, optim__weight_decay=0.0,
        )  # fmt: skip
        part = whole['by_source'][name]
        assert part['loss'] == pytest.approx(alone['eval_loss'], rel=1e-6)
        if family == 'bert':
            assert 'bits_per_byte' not in part
        else:
            assert part['bits_per_byte'] == pytest.approx(alone['bits_per_byte'], rel=1e-6)
    if family == 'bert':
        assert summary['bits_per_byte'] is None
        return
    nats_per_byte, bytes_per_target = 0.0, 0.0
    for weight, name in zip(WEIGHTS, mixed.texts, strict=True):
        part = whole['by_source'][name]
        bytes_per_target += weight * summary['data'][name]['validation']['bytes'] / part['targets']
        nats_per_byte += weight * part['loss']
    bits = nats_per_byte / math.log(2) / bytes_per_target
    assert summary['bits_per_byte'] == pytest.approx(bits, rel=1e-9)


def test_a_stopped_run_goes_on_to_the_bit_and_counts_on(
    finished: Path, mixed: Mixed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / 'run'))
    (run / 'summary.json').unlink()
    shutil.rmtree(run / 'checkpoints' / '24')
    mixed.train('llama', run)
    assert 'going on   from step 16' in capsys.readouterr().err
    same_run(run, finished)


def test_on_another_mesh_rows_and_counts_are_the_same(
    finished: Path, mixed: Mixed, tmp_path: Path
) -> None:
    mixed.train('llama', tmp_path / 'run', mesh__devices=2)
    assert summary_of(tmp_path / 'run')['data'] == summary_of(finished)['data']


def test_weights_agree_on_resume_and_cost_nothing_to_change(finished: Path, mixed: Mixed) -> None:
    with pytest.raises(UserError, match=r'differs in data.weights=\(0.5, 0.4, 0.1\)') as told:
        mixed.train('llama', finished, data__weights=(0.5, 0.4, 0.1))
    assert '\n' not in str(told.value)
    held = {path: path.stat().st_mtime_ns for path in mixed.cache.rglob('*')}
    config = mixed.config('llama', data__weights=None)
    mixture = prepare_mixture(config.data, None)
    assert {path: path.stat().st_mtime_ns for path in mixed.cache.rglob('*')} == held
    tokens = [part.train.tokens for part in mixture.parts]
    assert mixture.shares == pytest.approx([n / sum(tokens) for n in tokens])


def test_a_branch_onto_other_text_is_counted_from_there(
    finished: Path, mixed: Mixed, tmp_path: Path
) -> None:
    tokenizer = str(finished / 'tokenizer.model')
    summary = mixed.train(
        'llama', tmp_path / 'run', data__sources=mixed.texts[:2], data__weights=(1.0, 1.0),
        data__tokenizer=tokenizer, run_fork_from=f'{finished}@16',
    )  # fmt: skip
    assert [account['rows'] for account in summary['data'].values()] == [32, 32]
    assert summary['data_total']['tokens']['trained_on'] == 8 * 8 * 32


def mixture_of(mixed: Mixed, **overrides: Any) -> Mixture:
    return prepare_mixture(mixed.config('llama', **overrides).data, None)


def test_one_tokenizer_is_trained_on_all_sources(mixed: Mixed) -> None:
    mixture = mixture_of(mixed)
    pieces = set(mixture.tokenizer.pieces(range(mixture.tokenizer.vocabulary.size)))
    assert {'t', 'T', '0'} <= pieces
    assert len({part.tokenizer.sha256 for part in mixture.parts}) == 1
    assert mixture.parts[0].accounting['tokenizer']['kind'] == 'char'


@pytest.mark.parametrize(
    ('overrides', 'words'),
    [
        ({'data__source': 'a.txt'}, r'^data.source=a.txt: not together with data.sources'),
        ({'data__sources': ()}, r'^data.sources: empty'),
        ({'data__sources': ('a', '')}, r'^data.sources=a,: one of them is empty'),
        ({'data__sources': ('a', 'b', 'a')}, r'^data.sources: a is there twice'),
        ({'data__weights': (1.0,)}, r'^data.weights=1.0: 1 for 3 of data.sources'),
        ({'data__weights': (1.0, 0.0, 1.0)}, r'^data.weights: 0.0 for .*many; must be a positive'),
        ({'data__weights': (1.0, math.nan, 1.0)}, r'^data.weights: nan for'),
        ({'data__weights': (1.0, 2.0, math.inf)}, r'^data.weights: inf for'),
        ({'data__sources': None}, r'^data.weights: weighs data.sources'),
        (
            {'data__weights': (1.0, 1.0, 1e-7)},
            r'^data.weights: .*short.txt would get a row in 20',
        ),
        ({'data__sources': ('no.txt', 'stdlib', 'a')}, r'^data.sources=.*no.txt: no such file'),
    ],
)
def test_a_mistake_is_told_in_a_line(
    overrides: dict[str, Any], words: str, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    if 'data__source' in overrides:
        monkeypatch.setattr(mixed, 'text', 'a.txt')
    with pytest.raises(UserError, match=words) as told:
        mixture_of(mixed, **overrides)
    assert '\n' not in str(told.value)


def test_a_source_twice_or_without_text_is_refused(mixed: Mixed, tmp_path: Path) -> None:
    (tmp_path / 'blank.txt').write_text(' \n' * 500)
    blank = (mixed.texts[0], mixed.texts[1], str(tmp_path / 'blank.txt'))
    with pytest.raises(UserError, match=r'^data.sources=.*blank.txt: (empty|too little text)'):
        mixture_of(mixed, data__sources=blank)
    twice = (mixed.texts[0], mixed.texts[1], f'{mixed.texts[1]}/.')
    with pytest.raises(UserError, match=r'hold the same text'):
        mixture_of(mixed, data__sources=twice)


def test_the_command_line(mixed: Mixed, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        f'--config={CONFIG}:llama', f'--config.data.sources={",".join(mixed.texts)}',
        '--config.data.weights=6,3,1', f'--config.data.cache_dir={mixed.cache}',
    ]  # fmt: skip
    assert main(['data', *flags, '--rows=8', '--step=2']) == 0
    shown = capsys.readouterr().out
    titles = [line for line in shown.splitlines() if line.startswith('step 2, row ')]
    config = lm.load_config(
        str(CONFIG) + ':llama', **{'data.sources': mixed.texts, 'data.weights': (6.0, 3.0, 1.0)},
        **{'data.cache_dir': str(mixed.cache)},
    )  # fmt: skip
    mixture = prepare_mixture(config.data, None)
    objective = build_objective(config, mixture.tokenizer.vocabulary)
    sources = mixed_rows(objective, mixture, 0).sources_of(np.arange(8, 16))
    assert titles == [
        f'step 2, row {i + 1} of 8, from {mixed.texts[source]}' for i, source in enumerate(sources)
    ]
    workdir = f'--workdir={tmp_path / "run"}'
    assert main(['train', *flags, workdir, '--config.train.steps=2']) == 0
    said = capsys.readouterr().err
    assert f'rows from  {mixed.texts[0]} 60.00%, ' in said
    # A run shows its own rows, without preparing its text again.
    assert main(['data', workdir, '--rows=8', '--step=2']) == 0
    assert capsys.readouterr() == (shown, '')
    assert main(['plan', *flags, '--config.model.vocab_size=400']) == 0
