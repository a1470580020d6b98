"""What is kept of a stream, with a stream of numbered texts that counts what is drawn of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm.data import saved_stream
from lm.data.saved_stream import SavedStream
from lm.errors import UserError


def text(number: int) -> str:
    return f'{number} é\u2028' + 'x\n' * (number % 7)


class Numbered:
    """Texts 0 to `length` - 1; breaks off before the text `breaks_at`."""

    def __init__(self, length: int = 100, breaks_at: int | None = None):
        self.length, self.breaks_at = length, breaks_at
        self.drawn: list[int] = []
        self._next = 0

    def opened(self, state: Any) -> 'Numbered':
        self._next = 0 if state is None else state['next']
        return self

    def texts(self) -> Iterator[str]:
        while self._next < self.length:
            if self._next == self.breaks_at:
                raise UserError('broke off')
            self.drawn.append(self._next)
            self._next += 1
            yield text(self._next - 1)

    def state(self) -> Any:
        return {'next': self._next}


def unwanted(state: Any) -> Numbered:
    raise AssertionError('enough is kept: the stream must not be opened')


def content(folder: Path) -> tuple[bytes, dict[str, Any]]:
    position = json.loads((folder / 'position.json').read_text())
    return (folder / 'documents.jsonl').read_bytes()[: position['bytes']], position


def test_broken_off_or_extended_is_as_read_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    SavedStream(tmp_path / 'straight').read_on(60, Numbered().opened)
    straight = content(tmp_path / 'straight')
    assert straight[0] == b''.join(
        json.dumps({'text': text(i)}, ensure_ascii=False).encode() + b'\n' for i in range(60)
    )
    monkeypatch.setattr(saved_stream, 'COMMIT_BYTES', 200)
    folder = tmp_path / 'parts'
    broken = Numbered(breaks_at=30)
    with pytest.raises(UserError, match='broke off'):
        SavedStream(folder).read_on(60, broken.opened)
    kept = SavedStream(folder).position.documents
    assert 20 < kept < 30, 'what came since the last commit is read again, no more'
    # What a kill leaves behind the position: a line that is cut.
    with (folder / 'documents.jsonl').open('ab') as file:
        file.write(b'{"text": "cut of')
    again = Numbered()
    SavedStream(folder).read_on(40, again.opened)
    assert again.drawn == [*range(kept, 40)]
    further = Numbered()
    saved = SavedStream(folder)
    saved.read_on(60, further.opened)
    assert further.drawn == [*range(40, 60)]
    assert content(folder) == straight
    assert [*saved.texts(60)] == [text(i) for i in range(60)]
    # Fewer are those that a smaller bound gave, without a stream.
    SavedStream(tmp_path / 'few').read_on(25, Numbered().opened)
    few = SavedStream(folder)
    few.read_on(25, unwanted)
    assert [*few.texts(25)] == [text(i) for i in range(25)]
    assert few.sha256(25) == SavedStream(tmp_path / 'few').position.sha256 != few.sha256(60)


def test_the_end_is_remembered(tmp_path: Path) -> None:
    saved = SavedStream(tmp_path)
    saved.read_on(100, Numbered(length=100).opened)
    assert not saved.position.ended, 'as many as were asked for: whether more come is not known'
    more = Numbered(length=100)
    saved.read_on(101, more.opened)
    assert saved.position.ended and more.drawn == []
    SavedStream(tmp_path).read_on(1000, unwanted)


@pytest.mark.parametrize('damage', ['flipped', 'cut', 'position'])
def test_damage_is_noticed_and_read_anew(tmp_path: Path, capsys: Any, damage: str) -> None:
    SavedStream(tmp_path).read_on(50, Numbered().opened)
    sound = content(tmp_path)
    documents = tmp_path / 'documents.jsonl'
    if damage == 'flipped':
        documents.write_bytes(sound[0].replace(b'17 ', b'18 '))
    elif damage == 'cut':
        documents.write_bytes(sound[0][:-3])
    else:
        (tmp_path / 'position.json').write_text('{"documents": 50')
    again = Numbered()
    SavedStream(tmp_path).read_on(50, again.opened)
    assert 'is broken; reading the stream anew' in capsys.readouterr().err
    assert len(again.drawn) == 50
    assert content(tmp_path) == sound
