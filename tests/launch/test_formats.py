"""`lm formats`: what it prints and draws, without jax, and what it says of a mistake."""

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import pytest
from matplotlib import image
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from launch._formats_picture import drawn
from launch.main import main
from lm.precision.exact import exact_number
from lm.precision.formats import FORMATS
from lm.precision.stored import stored

ROOT = Path(__file__).parent.parent.parent
NAMES = list(FORMATS)


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(['formats', *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ''
    return captured.out


def by_name(table: str) -> dict[str, list[str]]:
    """The cells of a table's rows, by the first."""
    return {line.split()[0]: line.split() for line in table.splitlines()[1:]}


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(['--params=7.5e9'], capsys)
    can_hold, becomes, bits, errors, notes = out.rstrip('\n').split('\n\n')
    assert list(by_name(can_hold)) == list(by_name(bits)) == list(by_name(errors)) == NAMES
    assert by_name(can_hold)['fp16'] == [
        'fp16', 'float16', '5', '10', '65504', '6.104e-5', '5.96e-8', '0.0009766', 'yes', 'yes',
        '2', '15', 'GB',
    ]  # fmt: skip
    assert by_name(can_hold)['int8'][4:] == [
        '4', '0.0315', '0.0315', '0.0315', 'no', 'no', '1', '7.5', 'GB',
    ]  # fmt: skip
    assert by_name(can_hold)['int4'][-3:] == ['0.5', '3.75', 'GB']
    assert becomes.startswith('pi = 3.14159265358979323846')
    assert by_name(bits)['fp32'] == ['fp32', '0|10000000|10010010000111111011011', '0x40490FDB']
    assert by_name(bits)['int8'] == ['int8', '0|1100100', '0x64']
    assert by_name(errors)['bf16'] == ['bf16', '3.140625', '0.0009677', '0.000308', 'rounded']
    assert by_name(errors)['int8'][1:5] == ['400/127', '~', '3.14960629921', '0.008014']
    assert 'absmax/127 for int8 and absmax/7 for int4 (absmax = 4)' in notes
    assert max(map(len, out.splitlines())) < 140


def test_a_value_and_a_scale_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(['--value=-1e6', '--absmax=2e6'], capsys)
    errors = by_name(out.split('\n\n')[3])
    assert errors['fp16'][1:] == ['-inf', '-', '-', 'too', 'large:', '-inf']
    assert errors['fp8_e4m3'][1:] == ['nan', '-', '-', 'too', 'large:', 'nan']
    # 63.5 steps are rounded to the even 64.
    assert errors['int8'][1] == '-128000000/127'
    # 40 digits are more than the width allows a number of 750.
    tiny = by_name(printed(['--value=1e-320'], capsys).split('\n\n')[3])['fp64']
    assert tiny[1].startswith('~9.9998886718') and tiny[1].endswith('e-321')
    assert tiny[-2:] == ['rounded,', 'subnormal']


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(['--json', '--params=2e9'], capsys))
    assert (found['value'], found['params'], list(found['formats'])) == ('pi', 2e9, NAMES)
    fp64, bf16, int4 = (found['formats'][name] for name in ('fp64', 'bf16', 'int4'))
    assert bf16 == {
        'dtype': 'bfloat16',
        'bits': 16,
        'exponent_bits': 8,
        'fraction_bits': 7,
        'max': (2 - 2**-7) * 2.0**127,
        'smallest_normal': 2.0**-126,
        'smallest_subnormal': 2.0**-133,
        'epsilon': 2.0**-7,
        'has_inf': True,
        'has_nan': True,
        'bytes_each': 2,
        'memory_bytes': 4e9,
        'stored': {
            'sign': '0',
            'exponent': '10000000',
            'fraction': '1001001',
            'hex': '0x4049',
            'scale': '1',
            'exact': '3.140625',
            'absolute_error': bf16['stored']['absolute_error'],
            'relative_error': bf16['stored']['relative_error'],
            'outcome': 'rounded',
        },
    }
    assert float(bf16['stored']['absolute_error']) == pytest.approx(math.pi - 3.140625, rel=1e-12)
    assert float(bf16['stored']['relative_error']) == pytest.approx(1 - 3.140625 / math.pi)
    assert fp64['max'] == sys.float_info.max and fp64['smallest_subnormal'] == 5e-324
    assert Fraction(fp64['stored']['exact']) == Fraction(math.pi)
    assert (int4['stored']['scale'], int4['stored']['exact']) == ('4/7', '20/7')


def test_json_of_what_is_too_large(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f'{constant} is no JSON')

    text = printed(['--json', '--value=1e400'], capsys)
    found = json.loads(text, parse_constant=refuse)['formats']
    assert found['fp64']['stored']['exact'] == 'inf'
    assert found['fp64']['stored']['absolute_error'] is None
    assert found['int8']['stored']['exact'] == '4'
    # 1e400 less 4, which no float holds.
    assert found['int8']['stored']['absolute_error'] == '1e+400'


def test_the_picture_has_a_box_for_each_bit() -> None:
    found = [stored(exact_number('x', 'pi'), each, Fraction(4)) for each in FORMATS.values()]
    figure = drawn('pi', found, 1e9).figure
    [axes] = figure.axes
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    bits, unread, legend = 64 + 32 + 19 + 16 + 16 + 8 + 8 + 4 + 8 + 4, 13, 3
    assert len(boxes) == bits + unread + legend
    colours = [box.get_facecolor() for box in boxes[legend:]]
    assert [colours.count(box.get_facecolor()) for box in boxes[:legend]] == [
        len(FORMATS),
        11 + 8 + 8 + 8 + 5 + 4 + 5 + 2,
        52 + 23 + 10 + 7 + 10 + 3 + 2 + 1 + 7 + 3,
    ]
    digits = [text.get_text() for text in axes.texts if text.get_text() in ('0', '1')]
    assert ''.join(digits) == ''.join(''.join(each.fields) for each in found)


@pytest.mark.parametrize('value', ['pi', '-1/3', '1e-320', '-2e38', '1' * 400])
def test_nothing_drawn_overlaps(value: str) -> None:
    found = [stored(exact_number('x', value), each, Fraction(13, 3)) for each in FORMATS.values()]
    figure = drawn(value, found, 1.23e10).figure
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text()]
    inside = figure.bbox
    assert all(inside.x0 <= place.x0 and place.x1 <= inside.x1 for place in places)
    assert all(inside.y0 <= place.y0 and place.y1 <= inside.y1 for place in places)
    pairs = [(a, b) for i, a in enumerate(places) for b in places[:i]]
    assert [(a, b) for a, b in pairs if a.overlaps(b)] == []


def test_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed([f'--output={tmp_path / "x.PNG"}'], capsys)
    assert out.startswith('format')
    height, width, _ = image.imread(tmp_path / 'x.PNG', format='png').shape
    assert width > 1500 and height > 900
    for name in ('a.svg', 'b.svg'):
        printed(['--value=1/3', f'--output={tmp_path / name}'], capsys)
    assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()
    tree = ElementTree.parse(tmp_path / 'a.svg')
    said = [node.text for node in tree.iter('{http://www.w3.org/2000/svg}text')]
    assert '1/3 in bits' in said and '0.333984375' in said
    assert '1 + 7 bits; 1 byte, 1 GB; largest 4 by its scale; step 0.0315 everywhere' in said


def test_a_full_disk_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = tmp_path / 'x.png'
    full.symlink_to('/dev/full')
    assert main(['formats', f'--output={full}']) == 2
    line = f'lm formats: --output={full}: cannot be written (No space left on device)\n'
    assert capsys.readouterr() == ('', line)


@pytest.mark.parametrize('words', [[], ['--json']])
def test_no_jax_and_no_matplotlib(words: list[str]) -> None:
    code = (
        'import sys; from launch.main import main; status = main(sys.argv[1:]); '
        'print([m for m in ("jax", "flax", "matplotlib") if m in sys.modules], file=sys.stderr); '
        'sys.exit(status)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, 'formats', *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == '[]\n'
    assert 'float8_e4m3fn' in done.stdout


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (
            ['--value=tau'],
            '--value=tau: must be a number such as 3.14, 1e-8 or 1/3, or one of pi, e',
        ),
        (['--value='], '--value: missing; give the number to store: pi, e, 3.14, 1e-8 or 1/3'),
        (['--value=1e401'], '--value=1e401: give exponents of at most 400'),
        (['--absmax=0'], '--absmax=0: must be positive'),
        (['--absmax=-4'], '--absmax=-4: must be positive'),
        (['--absmax=four'], '--absmax=four: must be a number such as'),
        (['--params=0'], '--params=0: must be positive'),
        (['--params=7B'], '--params=7B: must be float'),
        (['--output=x.pdf'], '--output=x.pdf: must end in .svg or .png'),
        (['--output=nonesuch/x.png'], '--output=nonesuch/x.png: there is no folder nonesuch'),
        (['--output={folder}'], '--output={folder}: is a folder; give a file'),
    ],
)
def test_a_users_error_is_one_line_and_status_2(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / 'a.png'
    folder.mkdir()
    assert main(['formats', *(word.format(folder=folder) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('\n') == 1
    assert captured.err.startswith(f'lm formats: {line.format(folder=folder)}')
