"""The embedded corpora: text that every Python brings along, nothing to download or license."""

import ast
import hashlib
import io
import platform
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from lm.data.sources import Document, Part, Reading, Unit, cut_documents
from lm.errors import UserError

_LEFT_OUT = frozenset(
    {
        'test', 'tests', 'idlelib', 'lib2to3', 'encodings',
        'site-packages', 'dist-packages', '__pycache__',
    }
)  # fmt: skip
_TOPICS = 'pydoc_data/topics.py'


class StandardLibrary:
    """The English of the standard library, or its sources; modules are parsed, never imported.

    English: the docstrings of a module, in the order of its source, are one document, each topic
    of `pydoc_data` another. Sources: one document a module.
    """

    has_validation = False

    def __init__(self, *, code: bool, unit: Unit):
        """
        Raises:
          UserError: this Python has no library of source files.
        """
        self._code = code
        self._unit = unit
        self.facts = {
            'source': 'stdlib_code' if code else 'stdlib',
            'python': platform.python_version(),
        }
        self._root = Path(sysconfig.get_path('stdlib'))
        self._texts: list[tuple[str, str]] | None = None
        self._unparsed = 0
        self._paths = [
            path
            for path in sorted(self._root.rglob('*.py'))
            if _LEFT_OUT.isdisjoint(path.relative_to(self._root).parts)
        ]
        if not self._paths:
            raise UserError(
                f'data.source={self.facts["source"]}: this Python keeps no source files in '
                f'{self._root}; give a file of text instead'
            )

    def fingerprint(self) -> str:
        """SHA-256 over every module's name and bytes."""
        digest = hashlib.sha256()
        for path in self._paths:
            digest.update(self._name(path).encode() + b'\0')
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    def documents(self, reading: Reading, part: Part = 'train') -> Iterator[Document]:
        """See `Source.documents`. Modules without docstrings count as dropped."""
        # Parsing a whole library takes seconds and its text is small: it is kept.
        if self._texts is None:
            self._texts = [text for path in self._paths for text in self._texts_of(path)]
        if self._unparsed:
            reading.dropped['not parsed by this Python'] += self._unparsed
        for name, text in self._texts:
            yield from cut_documents(name, io.StringIO(text, newline='\n'), self._unit, reading)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _texts_of(self, path: Path) -> Iterator[tuple[str, str]]:
        name = self._name(path)
        try:
            with tokenize.open(path) as file:
                source = file.read()
            if self._code:
                yield name, source
                return
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                tree = ast.parse(source)
        except (SyntaxError, ValueError):
            self._unparsed += 1
            return
        if name == _TOPICS:
            yield from _topics(tree)
        yield name, '\n\n'.join(_docstrings(tree))


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Docstrings of the module, its classes and functions, in the order of the source."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, 'lineno', 0)):
        if text := (ast.get_docstring(node) or '').strip():
            yield text


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The help topics: the module's one dictionary of texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(node.value).items()):
                yield f'pydoc_data/topics/{topic}', text.strip()
