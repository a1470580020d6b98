"""`lm tokenizer`: trains on the training part, inspects, and refuses in a line."""

from pathlib import Path

import pytest

from launch.main import main

LINES = ''.join(f'{i} green bottles, standing on the wall\n' for i in range(400))


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('tokenizer')
    (folder / 'bottles.txt').write_text(LINES)
    flags = [f'--source={folder / "bottles.txt"}', f'--output={folder / "bottles.model"}']
    assert main(['tokenizer', *flags, '--kind=bpe', '--vocab_size=400']) == 0
    return folder / 'bottles.model'


def test_inspects_what_it_trained(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / 'text.txt'
    text.write_text('7 green bottles \u2581 \u00e9')
    assert main(['tokenizer', f'--model={model}', f'--text={text}']) == 0
    shown = dict(line.split('  ', 1) for line in capsys.readouterr().out.splitlines() if line)
    shown = {key: value.strip() for key, value in shown.items()}
    assert shown['ids'] == '400'
    assert shown['text'] == '22 bytes, 19 characters'
    assert shown['round trip'] == 'exact'
    assert 0 < float(shown['bytes a token']) < 22


def test_inspects_a_tokenizer_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers = pytest.importorskip('tokenizers', reason='the extra hub is not installed')
    vocabulary = {'[UNK]': 0, '[SEP]': 1, 'a': 2}
    codec = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token='[UNK]'))
    codec.save(str(tmp_path / 'tokenizer.json'))
    assert main(['tokenizer', f'--model={tmp_path}']) == 0
    shown = capsys.readouterr().out
    assert 'pad, bos, eos    3, 1, 1' in shown
    assert 'any text exact   no' in shown
    (tmp_path / 'tokenizer.json').write_text('{}')
    assert main(['tokenizer', f'--model={tmp_path}']) == 2
    assert capsys.readouterr().err.startswith('lm tokenizer: --model=')


def test_the_held_out_part_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A single document is held out by position: the end of this one has letters of its own,
    # which a tokenizer without them writes as bytes.
    (tmp_path / 'a.txt').write_text(LINES + '\u03b1\u03b2\u03b3' * 100)
    (tmp_path / 'end.txt').write_text('\u03b1')
    flags = [f'--source={tmp_path / "a.txt"}', f'--output={tmp_path / "a.model"}']
    assert main(['tokenizer', *flags, '--vocab_size=400', f'--text={tmp_path / "end.txt"}']) == 0
    assert '<0xCE> <0xB1>' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['tokenizer.model', 'x.model'])
@pytest.mark.parametrize('content', [b'', b'\x12\x02\x20\x03'], ids=['empty', 'no pieces'])
def test_a_model_without_content_is_told_in_a_line(
    name: str, content: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(['tokenizer', f'--model={tmp_path / name}']) == 2
    [line] = capfd.readouterr().err.splitlines()  # SentencePiece writes past sys.stderr
    assert 'not a SentencePiece model' in line


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--source={text}'], '--output: missing'),
        (['--source={text}', '--output={text}/x.model'], 'there is no folder'),
        (['--source=nonesuch.txt', '--output={model}'], '--source=nonesuch.txt'),
        (['--source={text}', '--vocab_size=90000', '--output={model}'], '--vocab_size=90000'),
        (['--source={text}', '--kind=bte', '--output={model}'], '--kind=bte: must be one of'),
        (['--model={text}'], 'not a SentencePiece model'),
        (['--model={text}', '--kind=bpe'], '--kind: is for training one'),
        (['--model={text}', '--text=nonesuch.txt'], '--text=nonesuch.txt: cannot be read'),
    ],
)
def test_a_mistake_is_told_in_a_line(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / 'text.txt'
    text.write_text(LINES)
    filled = [flag.format(text=text, model=tmp_path / 'x.model') for flag in flags]
    assert main(['tokenizer', *filled]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.count('\n') == 1
    assert words in captured.err
    assert not (tmp_path / 'x.model').exists()
