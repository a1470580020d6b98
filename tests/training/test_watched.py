"""Texts that are scored and not trained on, and bits per byte of a part of what is held out."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm.data.prepare import Prepared, prepare
from lm.data.split import cut_by_position
from lm.errors import UserError
from lm.evaluation.said_bytes import said_bytes
from lm.training.evaluate import packed_rows
from lm.training.program import build_objective
from tests.data.corpora import words
from tests.training.runs import Runs, read_rows, write_text

SMALL: dict[str, Any] = {'train__steps': 4, 'eval__every_steps': 2, 'eval__batches': 1}


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp('texts')
    return Runs(write_text(folder / 'domain.txt'), tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def general(runs: Runs) -> Path:
    """Another text, of many documents, some of whose characters take several bytes."""
    folder = runs.text.parent / 'general'
    folder.mkdir()
    for i in range(40):
        text = f'Number {i}: ' + words(150, seed=i).replace('e', 'é').replace('o', '€')
        (folder / f'{i}.txt').write_text(text, encoding='utf-8')
    return folder


@pytest.fixture(scope='module')
def watching(
    runs: Runs, general: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A run on the domain that is scored on the general text too, and its summary."""
    workdir = tmp_path_factory.mktemp('watching') / 'run'
    return workdir, runs.train('llama', workdir, eval__sources=(str(general),), **SMALL)


def test_it_is_scored_as_what_is_trained_on_and_changes_nothing_else(
    runs: Runs, general: Path, watching: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run, summary = watching
    alone = runs.train('llama', tmp_path / 'alone', **SMALL)
    assert summary['params_sha256'] == alone['params_sha256']
    assert summary['data'] == alone['data']
    rows, rows_alone = (read_rows(path / 'eval.jsonl') for path in (run, tmp_path / 'alone'))
    assert [row['step'] for row in rows] == [2, 4]
    for row, row_alone in zip(rows, rows_alone, strict=True):
        by_source = row.pop('by_source')
        assert row == row_alone
        assert by_source.keys() == {str(runs.text), str(general)}
        own = {name: row[name] for name in ('loss', 'targets', 'bits_per_byte')}
        assert by_source[str(runs.text)] == own
        assert by_source[str(general)]['loss'] != row['loss']
    assert summary['eval_by_source'] == by_source
    assert 'eval_by_source' not in alone
    # A run that trains on that text, begins with these parameters and, with a rate next to
    # nothing, ends with them: what it holds out is what was scored.
    trained = runs.train(
        'llama', tmp_path / 'trained', data__source=str(general), train__steps=1,
        data__tokenizer=str(run / 'tokenizer.model'), checkpoint__init_from=str(run),
        optim__peak_lr=1e-30, optim__weight_decay=0.0,
    )  # fmt: skip
    for name, key in (('loss', 'eval_loss'), ('bits_per_byte', 'bits_per_byte')):
        assert by_source[str(general)][name] == pytest.approx(trained[key], rel=1e-6)


def test_it_is_told_of_and_may_change_on_resume(
    runs: Runs, general: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, constant = tmp_path / 'run', {'optim__schedule': 'constant'}
    runs.train('llama', run, **SMALL, **constant)
    more: dict[str, Any] = {**SMALL, **constant, 'train__steps': 6, 'eval__every_steps': 5}
    capsys.readouterr()
    runs.train('llama', run, eval__sources=(str(general),), **more)
    said = capsys.readouterr().err
    assert f'scored too {general}' in said
    assert f"changed    eval.sources: () -> ('{general}',)" in said
    [*_, early, whole] = rows = read_rows(run / 'eval.jsonl')
    assert [(row['step'], 'by_source' in row) for row in rows] == [
        (2, False), (4, False), (5, True), (6, True),
    ]  # fmt: skip
    for row in (early, whole):
        part = row['by_source'][str(general)]
        bits = f'{part["loss"]:.4f}, {part["bits_per_byte"]:.4f} bits per byte: {general}'
        assert bits in said
    events = b''.join(path.read_bytes() for path in run.rglob('events.*'))
    assert f'eval_loss/{general}'.encode() in events
    assert f'bits_per_byte/{general}'.encode() in events


def test_mistakes_are_named(runs: Runs, general: Path, tmp_path: Path) -> None:
    text, copy, empty = str(runs.text), tmp_path / 'copy.txt', tmp_path / 'empty.txt'
    copy.write_bytes(runs.text.read_bytes())
    empty.write_text('')

    def refused(*sources: str) -> str:
        with pytest.raises(UserError) as told:
            runs.train('llama', tmp_path / 'run', eval__sources=sources, **SMALL)
        assert not (tmp_path / 'run' / 'config.json').exists()
        return str(told.value)

    assert (
        refused(text)
        == f'eval.sources: {text} is in data.source={text}: scored already; leave it out'
    )
    assert 'is there 2 times; give it once' in refused(str(general), str(general))
    assert 'one is empty' in refused(str(general), ' ')
    assert refused('nowhere.txt').startswith('eval.sources=nowhere.txt: ')
    assert refused(str(empty)).startswith(f'eval.sources={empty}: ')
    # Its name is part of a text's documents, so a copy is another text; another path to it is not.
    again = str(general / '..' / runs.text.name)
    assert f'{again} holds the same text as {text}' in refused(again)
    assert f'{general}/. holds the same text as {general}' in refused(str(general), f'{general}/.')


def by_hand(prepared: Prepared, config: Any, rows: int) -> int:
    """Bytes of the targets that count in the first rows: decoded document by document."""
    objective = build_objective(config, prepared.tokenizer.vocabulary)
    packed = packed_rows(objective, prepared, config.train.seed, held_out=True)
    said: dict[int, list[int]] = {}
    for i in range(rows):
        row = packed.row(i)
        batch = objective.example(row, np.random.default_rng(0))
        assert batch.targets is not None and batch.loss_weights is not None
        for target, weight, document in zip(
            np.asarray(batch.targets),
            np.asarray(batch.loss_weights),
            row.documents[1:],
            strict=True,
        ):
            if weight and target != prepared.tokenizer.vocabulary.eos_id:
                said.setdefault(int(document), []).append(int(target))
    texts = map(prepared.tokenizer.decode, said.values())
    # A row may end in the middle of a character.
    return sum(len(text.rstrip('\ufffd').encode()) for text in texts)


def test_bits_per_byte_of_a_part_are_of_its_own_bytes(
    runs: Runs, general: Path, watching: tuple[Path, dict[str, Any]]
) -> None:
    run, _ = watching
    config = runs.config('llama', data__tokenizer=str(run / 'tokenizer.model'), **SMALL)
    early, whole = read_rows(run / 'eval.jsonl')
    for name in (str(runs.text), str(general)):
        data = runs.config('llama', data__source=name).data
        prepared = prepare(type(data)(**{**vars(data), 'tokenizer': config.data.tokenizer}), None)
        part = early['by_source'][name]
        size = by_hand(prepared, config, rows=config.train.batch_size)
        assert part['targets'] < whole['by_source'][name]['targets']
        assert part['bits_per_byte'] == pytest.approx(
            part['loss'] * part['targets'] / math.log(2) / size, rel=1e-12
        )


def test_a_beginning_has_the_bytes_of_its_whole_characters(runs: Runs, general: Path) -> None:
    config = runs.config('llama', data__source=str(general), data__tokenizer='bpe')
    prepared = prepare(config.data, None)
    store, tokenizer = prepared.validation, prepared.tokenizer
    places = store.tokens + 2 * store.documents
    assert said_bytes(store, tokenizer, places) == store.text_bytes
    assert said_bytes(store, tokenizer, 10 * places) == store.text_bytes
    texts = [tokenizer.decode(store.read(d, 0, store.lengths[d])) for d in range(store.documents)]
    text = ''.join(texts)
    ends = np.cumsum([0, *(len(c.encode()) for c in text)]).tolist()
    counts = [said_bytes(store, tokenizer, k) for k in range(0, places, 7)]
    assert counts[0] == 0 and counts == sorted(counts)  # type: ignore[type-var]
    assert set(counts) <= set(ends)
    # A bos, the first document, its eos, a bos; then text again.
    first = int(store.lengths[0])
    assert said_bytes(store, tokenizer, first + 3) == len(texts[0].encode())
    assert said_bytes(store, tokenizer, first + 1) == len(texts[0].encode())
    one = tokenizer.decode(store.read(0, 0, first - 1))
    assert said_bytes(store, tokenizer, first) == len(one.rstrip('\ufffd').encode())


def test_a_tokenizer_that_loses_something_knows_the_bytes_of_all_only(
    runs: Runs, tmp_path: Path
) -> None:
    runs.train('llama', tmp_path / 'run', data__tokenizer='word', **SMALL)
    early, whole = read_rows(tmp_path / 'run' / 'eval.jsonl')
    assert early['bits_per_byte'] is None and whole['bits_per_byte'] > 0
    runs.train(
        'llama', tmp_path / 'all', data__tokenizer='word', **{**SMALL, 'eval__batches': 10**6}
    )
    early, again = read_rows(tmp_path / 'all' / 'eval.jsonl')
    assert again == whole and early['targets'] == whole['targets']
    size = cut_by_position(runs.text.read_text(), 0.1)[1].encode()
    assert early['bits_per_byte'] == pytest.approx(
        early['loss'] * early['targets'] / math.log(2) / len(size), rel=1e-9
    )
