"""The page: what it says of each run, what it says is missing, and that it stands alone."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lm.report.page import Sample, page
from lm.report.recorded import read_runs
from tests.report.folders import write_run

ROOT = Path(__file__).parent.parent.parent
SUMMARY = {
    'steps': 4, 'stopped_by': 'steps', 'params': 1234, 'params_non_embedding': 1000, 'tokens': 2048,
    'flops': 8.64e19, 'flops_rule': 'a rule', 'final_loss': 4.5, 'eval_loss': 5.25,
    'bits_per_byte': 2.5, 'mfu': 0.25, 'device': '1 x cpu (cpu)', 'peak_device_bytes': 3 * 2**30,
    'dtypes': {'params': 'float32'}, 'attention_kernel': 'xla', 'compile_seconds': 1.5,
}  # fmt: skip


class Read(HTMLParser):
    """Ids, addresses and the rows of all tables of a page, by their first cell."""

    def __init__(self, text: str):
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.rows: dict[str, list[str]] = {}
        self._row: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == 'id':
                self.ids.append(value or '')
            if name in ('src', 'href', 'xlink:href'):
                self.addresses.append(value or '')
        if tag == 'tr':
            self._row = []
        if tag in ('th', 'td') and self._row is not None:
            self._row.append('')

    def handle_data(self, data: str) -> None:
        if self._row:
            self._row[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == 'tr' and self._row is not None:
            self.rows[self._row[0]] = self._row[1:]
            self._row = None


@pytest.fixture
def three(tmp_path: Path) -> list[str]:
    """A run that has ended, one under way, and one of another objective without any row."""
    ended = write_run(
        tmp_path / 'ended', losses=[6.0, 5.0, 4.75, 4.5], held_out=[(2, 5.5), (4, 5.25)],
        summary=SUMMARY, optim__peak_lr=1e-3,
    )  # fmt: skip
    going = write_run(
        tmp_path / 'a<b>&c', losses=[6.0, None], optim__peak_lr=3e-4, train__steps=900
    )
    return [str(path) for path in (ended, going, write_run(tmp_path / 'bert', 'bert_tiny'))]


def test_what_the_page_says(three: list[str]) -> None:
    text = page(read_runs(three))
    rows = Read(text).rows
    assert rows[''] == ['ended', 'a<b>&c', 'bert']
    assert rows['state'] == [
        'ended at step 4', 'at step 2 of 900: under way, or stopped',
        'at step 0 of 2,000: under way, or stopped',
    ]  # fmt: skip
    assert rows['training loss, the last'] == ['4.5000', '6.0000', '—']
    assert rows['held-out loss'] == ['5.2500', '—', '—']
    assert rows['bits per byte'] == ['2.5000', '—', '—']
    assert rows['FLOPs'][0] == '8.64e+19 = 1 PF-days'
    assert rows['FLOPs'][2] == '—'
    assert rows['MFU'] == ['25.0%', '—', '—']
    assert rows['most memory of a device'] == ['3.00 GiB', '—', '—']
    assert rows['parameters'][0] == '1,234 (1,000 without embeddings)'
    assert rows['optim.peak_lr'][:2] == ['0.001', '0.0003']
    assert rows['objective.name'] == ['clm', 'clm', 'mlm']
    assert rows['objective.options.mask_rate'][:2] == ['—', '—']
    assert not {'optim.name', 'train.seed', 'data.source'} & {*rows}
    for said in (
        'Loss (clm)', 'Loss (mlm)', 'not to be compared', 'a&lt;b&gt;&amp;c: no summary.json',
        'bert: no rows in metrics.jsonl: no curves', 'bert: no rows in eval.jsonl',
        'Not told by any run: MFU; Gradient noise scale; Loss scale.',
        'Not told by any run: Loss against tokens; Loss against FLOPs; Loss against time',
    ):  # fmt: skip
        assert said in text, said


def test_the_page_stands_alone(three: list[str]) -> None:
    text = page(read_runs(three), 'a <prompt>', [Sample('a <prompt> & more', True)] * 3)
    read = Read(text)
    assert len({*read.ids}) == len(read.ids) > 0
    assert read.addresses and all(address[1:] in read.ids for address in read.addresses)
    assert not read.tags & {'script', 'link', 'img', 'iframe', 'object', 'metadata'}
    assert '@import' not in text and all(x == '#' for x in re.findall(r'url\((.)', text))
    # Every colour is the page's own, one of light and one of dark.
    assert not re.search('#0a0b|#010203|#020304|#000000|#ffffff', text)
    used = {*re.findall(r'var\((--\w+)\)', text)}
    assert {'--run0', '--run1', '--faint'} <= used
    for name in used:
        assert len(re.findall(f'{name}: #', text)) == 3  # light, dark, print
    assert '<b>a &lt;prompt&gt;</b> &amp; more' in text


def test_thousands_of_rows_are_thinned_and_it_is_said(tmp_path: Path) -> None:
    losses = [5.0 + 0.001 * (i % 7) for i in range(5_000)]
    losses[3_333] = 40.0
    text = page(read_runs([str(write_run(tmp_path / 'long', losses=losses))]))
    assert 'Up to 5,000 rows a run. Of a line with more than 800 the lowest and the' in text
    assert 'the mean over the 2 % of the rows' in text
    assert max(len(path) for path in re.findall(r' d="([^"]*)"', text)) < 30_000


def test_runs_of_one_name_go_by_their_paths(tmp_path: Path) -> None:
    paths = [str(write_run(tmp_path / folder / 'run')) for folder in ('one', 'two')]
    other = str(write_run(tmp_path / 'other'))
    assert [run.label for run in read_runs([*paths, other])] == [*paths, 'other']


def test_a_report_costs_no_jax(three: list[str]) -> None:
    code = (
        'import sys; from lm.report.page import page; from lm.report.recorded import read_runs\n'
        f'page(read_runs({three!r}))\n'
        'print([m for m in ("jax", "flax", "optax") if m in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == '[]'
