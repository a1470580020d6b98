"""A reversible spelling of text that keeps every character through SentencePiece.

SentencePiece writes a space as U+2581, so a literal U+2581 would come back as a space; its trainer
skips sentences that hold U+2585 or NUL, and no piece of its may hold a tab. `escape` spells these
characters otherwise, and `unescape` undoes it for every text: each escaped spelling begins with
the escape character, which is itself escaped. A tab becomes one character, so that runs of tabs
can be pieces.
"""

import re

_ESCAPE = '\x10'
SPELLINGS = {
    _ESCAPE: _ESCAPE + _ESCAPE,
    '\u2581': _ESCAPE + '_',
    '\u2585': _ESCAPE + '#',
    '\0': _ESCAPE + '@',
    '\t': '\x0b',
    '\x0b': _ESCAPE + '|',
}
"""What each character that cannot stay is spelled as."""
_TABLE = str.maketrans(SPELLINGS)
_ORIGINALS = {spelling: character for character, spelling in SPELLINGS.items()}
_SPELLED = re.compile('|'.join(map(re.escape, sorted(_ORIGINALS, key=len, reverse=True))))


def escape(text: str) -> str:
    """`text` without the characters that SentencePiece would change."""
    return text.translate(_TABLE)


def unescape(text: str) -> str:
    """The text whose `escape` is `text`; an escape character on its own stays as it is."""
    return _SPELLED.sub(lambda match: _ORIGINALS[match[0]], text)
