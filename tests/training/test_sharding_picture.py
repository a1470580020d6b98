"""The picture of --describe: which devices hold a piece, what the file says, and bad paths."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib import image

from launch.main import main
from lm.errors import UserError
from lm.training import sharding_picture
from lm.training.pieces import Pieces, device_words, pieces
from lm.training.sharding_picture import picture
from tests.training.runs import CONFIG, Runs
from tests.training.test_state_bytes import made
from tests.training.test_state_table import OFFLOAD
from tests.training.test_strategies import MESHES


def texts(path: Path) -> list[str]:
    """The words of an SVG."""
    tree = ElementTree.parse(path)
    return [node.text or '' for node in tree.iter('{http://www.w3.org/2000/svg}text')]


@pytest.mark.parametrize('mesh', ['ddp', 'zero1', 'zero3', 'hybrid', 'zero3_tensor', 'all'])
def test_a_piece_is_held_by_the_devices_that_have_it(mesh: str) -> None:
    program = made('llama', **{'model.d_model': 32, 'model.d_ff': 64}, **MESHES[mesh])
    arrays = jax.tree.leaves(program.init_state())
    shapes = jax.tree.leaves(program.abstract_state)
    for array, shape in zip(arrays, shapes, strict=True):
        cut: Pieces = pieces(shape)
        held: dict[str, set[int]] = {}
        for shard in array.addressable_shards:
            held.setdefault(str(shard.index), set()).add(shard.device.id)
        assert sorted(map(sorted, held.values())) == sorted(map(list, cut.holders.values()))
        assert cut.count == len(cut.holders) == len(held)
        assert cut.across >= cut.down


def test_what_is_split_most_goes_across() -> None:
    program = made('llama', **{'mesh.strategy': 'zero3', 'mesh.tensor': 4})
    # D over fsdp, F over tensor.
    cut = pieces(program.abstract_state.params['decoder/layers/feed_forward/up'])
    assert (cut.down, cut.across) == (2, 4)
    assert [cut.holders[1, column] for column in range(4)] == [(4,), (5,), (6,), (7,)]


def test_devices_in_words() -> None:
    cases = {(3,): '3', (0, 1): '0, 1', (0, 4): '0, 4', (0, 1, 2, 3): '0-3', (0, 2, 3, 4): '0, 2-4'}
    assert {numbers: device_words(numbers) for numbers in cases} == cases


def test_the_words_of_an_svg(tmp_path: Path) -> None:
    program = made('t5', **MESHES['hybrid'], **{'model.num_layers': 3})
    picture(program, tmp_path / 'x.svg')
    said = texts(tmp_path / 'x.svg')
    assert said[1] == 'zero3 on 8 devices: replica 2 x fsdp 4'
    assert said[0].startswith('t5, ') and said[0].endswith(' parameters')
    dims = program.functional.dims
    assert [words for words in said if words in dims] == list(dims)
    split = [p for p, sharding in program.placement.params.items() if any(sharding.spec)]
    for devices in ('0, 4', '1, 5', '2, 6', '3, 7'):
        assert said.count(devices) == 3 * len(split)
    assert said.count('on all 8') == 3 * (len(dims) - len(split))
    assert said.count('D over fsdp') == 3 * len(split)
    assert 'D 128 x F 512, x 3 layers' in said
    assert sum(words.endswith('on one device alone') for words in said) == 4


def test_a_stage_shows_in_its_columns(tmp_path: Path) -> None:
    counts = {}
    for mesh in ('ddp', 'zero1', 'zero2', 'zero3'):
        picture(made('llama', **MESHES[mesh]), tmp_path / 'x.svg')
        counts[mesh] = texts(tmp_path / 'x.svg').count('D over fsdp')
    assert counts['ddp'] == 0
    assert counts['zero3'] == 3 * counts['zero1'] > 0
    assert counts['zero2'] == 2 * counts['zero1']


def test_equal_programs_make_equal_files(tmp_path: Path) -> None:
    for name in ('a.svg', 'b.svg'):
        picture(made('llama', **MESHES['zero3']), tmp_path / name)
    assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()


def test_a_png(tmp_path: Path) -> None:
    picture(made('llama', **MESHES['zero3']), tmp_path / 'few.PNG')
    picture(made('t5', **MESHES['zero3']), tmp_path / 'many.png')
    few = image.imread(tmp_path / 'few.PNG', format='png')
    many = image.imread(tmp_path / 'many.png')
    assert float(np.std(few)) > 0
    assert many.shape[0] > few.shape[0] > 1000
    assert many.shape[1] == few.shape[1]


def test_one_device_without_optimizer_state(tmp_path: Path) -> None:
    picture(made('gpt2', **{'mesh.devices': 1, 'optim.name': 'sgd'}), tmp_path / 'x.svg')
    said = texts(tmp_path / 'x.svg')
    assert said[1] == 'ddp on 1 device'
    assert said.count('on the one device') == 2 * said.count('none') > 0
    assert not any('alone' in words or 'each of' in words for words in said)


def test_host_memory_is_told(tmp_path: Path) -> None:
    program = made('llama', **MESHES['zero3'], **OFFLOAD)
    picture(program, tmp_path / 'x.svg')
    said = texts(tmp_path / 'x.svg')
    rows = len(program.functional.shapes)
    assert sum(words.endswith(' in host memory') for words in said) == rows
    assert sum(words.endswith(' in host memory, for each device') for words in said) == 2


def test_many_pieces_are_counted_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {(row, column): (32 * row + column,) for row in range(2) for column in range(32)}
    monkeypatch.setattr(sharding_picture, 'pieces', lambda array: Pieces(2, 32, held))
    picture(made('llama', **MESHES['zero3']), tmp_path / 'x.svg')
    said = set(texts(tmp_path / 'x.svg'))
    assert {'64 pieces', '0', '1', '2', '30', '31', '32', '63'} <= said
    assert not {'3', '29', '35', '61'} & said


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'picture=.*/file/x.svg: cannot be written \(Not a dir'):
        picture(made('llama', **MESHES['ddp']), tmp_path / 'file' / 'x.svg')


def test_describe_prints_and_draws_and_leaves_no_workdir(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        'train', f'--config={CONFIG}:gpt2', f'--config.data.source={runs.text}',
        f'--config.data.cache_dir={runs.cache}', '--config.mesh.devices=8',
        '--config.mesh.strategy=zero1', f'--workdir={tmp_path / "run"}', '--describe',
        f'--picture={tmp_path / "x.svg"}',
    ]  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    assert 'fsdp splits optimizer state only\n' in out
    assert 'a device holds' in out
    assert [path.name for path in tmp_path.iterdir()] == ['x.svg']
    assert texts(tmp_path / 'x.svg')[1] == 'zero1 on 8 devices: fsdp 8'


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--picture=x.svg'], '--picture=x.svg: draws what --describe tells; give both'),
        (['--describe', '--picture=x.gif'], '--picture=x.gif: must end in .svg or .png'),
        (['--describe', '--picture=svg'], '--picture=svg: must end in .svg or .png'),
        (
            ['--describe', '--picture=none/such/x.png'],
            '--picture=none/such/x.png: there is no folder none/such',
        ),
    ],
)
def test_a_wrong_path_is_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(['train', '--config=llama_tiny', *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err == f'lm train: {line}\n'
