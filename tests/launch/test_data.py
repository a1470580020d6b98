"""`lm data`: what it shows is what the pipeline trains on."""

import html
import re
from pathlib import Path

import numpy as np
import pytest

from launch.main import main
from lm.config import Config
from lm.data.pipeline import batches
from lm.data.prepare import prepare
from lm.named_configs import load_config
from lm.training.evaluate import packed_rows
from lm.training.program import build_objective
from lm.training.shown_rows import rows_of_step

WORDS = ('green', 'bottle', 'wall', 'standing', 'falling', 'none', 'ten', 'seven')
NAMES = {'llama_tiny': ['tokens'], 'bert_tiny': ['tokens'], 't5_tiny': ['encoder', 'decoder']}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 short documents, several of which share a row."""
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    folder = tmp_path / 'corpus'
    folder.mkdir()
    for i in range(40):
        words = np.random.default_rng(i).choice(WORDS, size=30)
        text = ' '.join(
            f'Number {i}: {word}.' if n % 5 == 0 else word for n, word in enumerate(words)
        )
        (folder / f'{i}.txt').write_text(text)
    return folder


def small(name: str, corpus: Path) -> Config:
    return load_config(
        name,
        data={'source': str(corpus), 'tokenizer': 'bpe'},
        model={'vocab_size': 400, 'd_model': 32, 'num_layers': 1},
        train={'batch_size': 8, 'seq_len': 64, 'steps': 50},
    )


@pytest.mark.parametrize('name', NAMES)
def test_the_rows_are_those_of_the_step(name: str, corpus: Path) -> None:
    config = small(name, corpus)
    shown = rows_of_step(config, 3)
    prepared = prepare(config.data, config.model.vocab_size)
    objective = build_objective(config, prepared.tokenizer.vocabulary)
    batch = next(
        batches(
            packed_rows(objective, prepared, config.train.seed, held_out=False),
            objective.example,
            batch_size=8,
            start_row=2 * 8,
            seed=config.train.seed,
            threads=0,
        )
    )
    assert len(shown) == 8
    assert batch.targets is not None and batch.loss_weights is not None
    for row, targets, weights in zip(shown, batch.targets, batch.loss_weights, strict=True):
        assert [side.title for side in row.sides] == NAMES[name]
        lines, padded = row.sides[-1].lines, row.sides[-1].padded
        count = len(targets) - padded
        assert lines['target'] == prepared.tokenizer.pieces(targets[:count])
        assert [float(w) for w in lines['weight']] == weights[:count].tolist()
        assert not np.any(weights[count:])


@pytest.mark.parametrize('name', NAMES)
def test_each_segment_names_its_document(name: str, corpus: Path) -> None:
    # Every document says its own number again and again, so its text tells which one it is.
    seen = 0
    for step in range(1, 4):
        for row in rows_of_step(small(name, corpus), step):
            lines = row.sides[0].lines
            assert set(lines['segment']) - {'0'} == set(map(str, row.documents))
            for segment, document in row.documents.items():
                text = ''.join(
                    token
                    for token, here in zip(lines['token'], lines['segment'], strict=True)
                    if here == str(segment)
                )
                for number in re.findall(r'Number\u2581(\d+):', text):
                    assert document == f'{number}.txt'
                    seen += 1
    assert seen >= 3  # of many: the MLM hides a part of most


def flags_for(corpus: Path) -> list[str]:
    return [
        '--config=t5_tiny', f'--config.data.source={corpus}', '--config.model.vocab_size=400',
        '--config.train.batch_size=4',
    ]  # fmt: skip


def test_text_and_html(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['data', *flags_for(corpus), '--rows=3']) == 0
    text = capsys.readouterr().out
    assert text.count('of 4\n') == 3
    assert max(map(len, text.splitlines())) <= 100
    assert 'decoder' in text and '<extra_id_0>' in text and '.txt' in text
    page = tmp_path / 'rows.html'
    assert main(['data', *flags_for(corpus), '--rows=3', '--format=html', f'--output={page}']) == 0
    written = page.read_text()
    assert written.count('<h2>') == 3
    assert html.escape('<extra_id_0>') in written
    assert '<extra_id_0>' not in written
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--step=0'], '--step=0: must be from 1'),
        (['--step=999999'], '--step=999999: must be from 1 to'),
        (['--rows=0'], '--rows=0: must be at least 1'),
        (['--format=pdf'], '--format=pdf: must be one of text, html'),
        (['--output=nonesuch/rows.html'], 'there is no folder nonesuch'),
        (['--workdir=nonesuch'], 'holds no run'),
        (['--config.data.source=nonesuch.txt'], 'data.source=nonesuch.txt'),
    ],
)
def test_a_mistake_is_told_in_a_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['data', '--config=llama_tiny', *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.count('\n') == 1
    assert words in captured.err
