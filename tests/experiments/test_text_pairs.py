"""Pairs of texts: read whole, divided by what they are of, their inputs exchanged."""

import json
from collections import Counter
from pathlib import Path

import pytest

from experiments._text_pairs import (
    Pair,
    divided,
    exchanged,
    read_summaries,
    read_translations,
    write_pairs,
)
from experiments.text_pairs import main, without_a_model
from lm import UserError
from tests.data.corpora import corpus


def pairs(count: int = 40) -> list[Pair]:
    return [Pair(f'a text {i} of some words', f'ein {i}', str(i // 4)) for i in range(count)]


def test_groups_are_on_one_side() -> None:
    parts = divided(pairs(400))
    sides = {name: {pair.group for pair in part} for name, part in parts.items()}
    assert not sides['train'] & sides['held_out']
    assert len(parts['train']) + len(parts['held_out']) == 400
    assert 0.1 < len(parts['held_out']) / 400 < 0.3


def test_inputs_are_those_of_others() -> None:
    own = pairs(9)
    others = exchanged(own)
    assert [pair.target for pair in others] == [pair.target for pair in own]
    assert all(a.input != b.input for a, b in zip(own, others, strict=True))
    assert Counter(p.input for p in own) == Counter(p.input for p in others)


def test_copy_and_lead_by_hand(tmp_path: Path) -> None:
    parts = {'train': [Pair('x y z', 'u v', '0')], 'held_out': [Pair('a b c', 'a b', '1')]}
    told = without_a_model('summary', parts)
    # Two words of three are right, and both that should be said.
    assert told['copy']['rouge1'] == pytest.approx(100 * 2 * (2 / 3) / (2 / 3 + 1))
    assert told['lead']['rouge1'] == pytest.approx(100)
    paths = write_pairs(tmp_path / 'files', parts)
    assert json.loads(paths['held_out'].read_text()) == {'input': 'a b c', 'target': 'a b'}


def test_real_pairs() -> None:
    translations = read_translations(
        str(corpus('tasks/xquad/xquad.en.json')), str(corpus('tasks/xquad/xquad.de.json'))
    )
    assert len(translations) == 1190 and len({pair.group for pair in translations}) == 48
    assert translations[0].target.startswith('Wie viele Punkte gab die Verteidigung')
    summaries = read_summaries(str(corpus('tasks/summarisation_legal/all_v1.json')))
    assert len(summaries) == 446 and len({pair.group for pair in summaries}) == 59


@pytest.mark.parametrize(
    ('content', 'words'), [('[', 'holds no clauses'), ('[1]', 'holds no'), ('{"a": {}}', 'holds')]
)
def test_other_files_are_refused(content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / 'all.json'
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read_summaries(str(path))
    with pytest.raises(UserError, match=r"--english=.* is not in SQuAD's layout"):
        read_translations(str(path), str(path))


@pytest.mark.slow  # two runs, and texts decoded: a minute
def test_the_whole_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    records = {
        str(i): {'original_text': p.input, 'reference_summary': p.target, 'doc': p.group}
        for i, p in enumerate(pairs())
    }
    (tmp_path / 'all.json').write_text(json.dumps(records))
    words = [
        f'--summaries={tmp_path}/all.json', f'--workdir={tmp_path}/runs', '--seeds=2', '--steps=8',
        '--d_model=32', '--vocab_size=180',
    ]  # fmt: skip
    monkeypatch.setenv('LM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr('sys.argv', ['text_pairs', *words])
    assert main() == 0
    told = json.loads(capfd.readouterr().out.splitlines()[-1])['summary']
    assert len(told['loss']) == len(told['loss_exchanged']) == 2
    assert told['gap']['mean'] == pytest.approx(
        sum(b - a for a, b in zip(told['loss'], told['loss_exchanged'], strict=True)) / 2
    )
