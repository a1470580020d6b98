"""What the pages show: their fenced blocks, and the commands in these.

A comment on the line before a block says what the tests do with it:
`run` has its commands run, `slow: WHY` has it run by slow tests only, `not run: WHY` by none.
Python is run without being asked to. A title is the file that a block is.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
GUIDES = sorted((ROOT / 'docs' / 'guides').glob('*.md'))
_FENCE = re.compile(
    r'(?:^<!-- (?P<mark>.*?) -->\n)?^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n'
    r'(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)
_MARKS = re.compile(r'run|(slow|not run): .+')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
      place: page and line, as errors name it.
      language: what the fence says.
      title: a file's path; empty: none.
      mark: what the comment before it says; empty: there is none.
      text: what stands inside.
    """

    place: str
    language: str
    title: str
    mark: str
    text: str

    @property
    def slow(self) -> bool:
        """Whether only slow tests run it."""
        return self.mark.startswith('slow: ')

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command, without comments and what is set before it."""
        lines = self.text.replace('\\\n', ' ').replace('$i', '0').splitlines()
        return [words for words in map(_words, lines) if words]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text, found = page.read_text(encoding='utf-8'), []
    for match in _FENCE.finditer(text):
        mark = match['mark'] or ''
        line = text[: match.start('language')].count('\n') + 1
        place = f'{page.relative_to(ROOT)}:{line}'
        assert not mark or _MARKS.fullmatch(mark), f'{place}: {mark}'
        found.append(Block(place, match['language'], match['title'] or '', mark, match['text']))
    return found


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    while words and (words[0] == 'srun' or re.fullmatch(r'[A-Z_]+=\S*', words[0])):
        words = words[1:]
    return words[: words.index('&')] if '&' in words else words
