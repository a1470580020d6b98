"""`lm inspect`: the files that it says it wrote, and what they hold."""

from pathlib import Path

import numpy as np
import pytest

from launch.main import main
from lm.inspection.attention import attention_maps
from lm.inspection.next_token import next_tokens
from lm.inspection.pictures import share_words
from tests.generation.tiny import language_model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setattr('lm.training.load.load_run', language_model)
    return str(tmp_path / 'out')


def test_two_sides_are_written_whole(run: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = ['--text=a <mask>.', '--target=ab', f'--out={run}', '--tokens=30', '--top_k=7']
    assert main(['inspect', '--workdir=t5', *words]) == 0
    said = capfd.readouterr()
    pictures = [f'attention_{kind}.png' for kind in ('encoder', 'decoder', 'cross')]
    names = [*pictures, 'next_token.png', 'embeddings.png', 'attention.npz', 'index.html']
    assert said.out.split() == [f'{run}/{name}' for name in names]
    model = language_model('t5')
    with np.load(f'{run}/attention.npz') as held:
        for each in attention_maps(model, 'a <mask>.', target='ab'):
            np.testing.assert_allclose(held[each.kind], each.weights_LHTS, atol=1e-6)
            assert tuple(held[f'{each.kind}_rows']) == each.rows
            assert tuple(held[f'{each.kind}_columns']) == each.columns
    written = Path(run, 'index.html').read_text(encoding='utf-8')
    [table] = next_tokens(
        model, 'a <mask>.', target='ab', temperature=0.8, top_k=7, top_p=0.9, rows=20
    )
    for name, shares_N in table.probabilities.items():
        assert f'<th>{name}<br>' in written
        assert all(f'>{share_words(float(share))}</td>' in written for share in shares_N)


def test_an_encoder_without_a_blank_has_no_table(
    run: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(['inspect', '--workdir=bert', '--text=a', f'--out={run}', '--tokens=30']) == 0
    names = [Path(line).name for line in capfd.readouterr().out.split()]
    assert names == ['attention.png', 'embeddings.png', 'attention.npz', 'index.html']
    assert 'has no &lt;mask&gt;' in Path(run, 'index.html').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--text='], '--text: missing; give what the model reads'),
        (['--text=a <mask>'], 'text: has a <mask>, and llama only continues text'),
        (['--text=' + 'a' * 30], 'text: 31 tokens with its special ones, the context is'),
        (['--text=a', '--top_p=0'], 'top_p=0.0: must be in (0, 1]'),
        (['--text=a', '--temperature=-1'], 'temperature=-1.0: must be at least 0'),
        (['--text=a', '--layers=0,5'], 'layers=5: the model has layers 0 to 0'),
        (['--text=a', '--tokens=3'], 'tokens=3: must be at least 10'),
        (['--text=a', '--rows=0'], 'rows=0: must be at least 1'),
        (['--text=a', '--out=/dev/null/x'], '--out=/dev/null/x: cannot be made (Not a directory)'),
        (['--text=a', '--workdir=lstm'], 'model.name=lstm: has no attention'),
    ],
)
def test_a_mistake_is_one_line(
    run: str, capfd: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    assert main(['inspect', '--workdir=llama', f'--out={run}', *words]) == 2
    said = capfd.readouterr()
    assert said.out == ''
    assert said.err.startswith(f'lm inspect: {line}') and said.err.count('\n') == 1


def test_a_folder_that_holds_something_is_left_alone(
    run: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / 'mine').write_text('mine')
    assert main(['inspect', '--workdir=llama', '--text=a', f'--out={tmp_path}']) == 2
    assert capfd.readouterr().err.endswith(': is not empty; give a new folder\n')
    assert [path.name for path in tmp_path.iterdir()] == ['mine']
