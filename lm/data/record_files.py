"""Labelled text from files: a record a line, a table, or one of the layouts that tasks come in.

The suffix decides the format; `.gz` and `.zst` may follow:

- `.jsonl`: an object a line;
- `.json`: a list of objects, an object of objects, or SQuAD's layout;
- `.csv`, `.tsv`: a first line of names; of `.tsv` quotes are characters like others, as in GLUE;
- `.conll`, `.bio`, `.iob2`: a token and its tag a line, a sentence ends at a line of blanks;
- `.parquet`: a row a record;
- anything else: texts as `data.documents` cuts them, each with the label that its file has:
  `rt-polarity.pos` is of `pos`, `pos/0_9.txt` of `pos`.

Records and such texts do not go together: a directory with both is refused, for what lies beside
records is as a rule a README.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from lm.data.compression import kind_of, open_packed
from lm.data.sources import Document, Reading, Unit, cut_documents, require_text
from lm.data.text_files import File, TextFiles
from lm.errors import UserError

CONLL = ('.conll', '.bio', '.iob2')
RECORDS = ('.jsonl', '.json', '.csv', '.tsv', '.parquet', *CONLL)
"""Suffixes of files of records."""
_DOCUMENT_LINE = '-DOCSTART-'
_LONGEST_FIELD = 1 << 30  # characters


class RecordFiles(TextFiles):
    """Files whose documents are records, as JSON.

    A record's name, which decides the side of a split, is its file and line; questions of one
    paragraph share theirs.
    """

    _nothing = 'holds no record; give .jsonl, .json, .csv, .tsv, .conll, .parquet or labelled texts'

    def __init__(self, source: str, *, unit: Unit, encoding: str = 'utf-8'):
        """
        Raises:
          UserError: nothing is there, or texts lie beside records.
        """
        super().__init__(source, text_field='', unit=unit, encoding=encoding)
        records = [path.name for path in self._files.values() if kind_of(path)[0] in RECORDS]
        texts = [path.name for path in self._files.values() if kind_of(path)[0] not in RECORDS]
        if records and texts:
            kind, _ = kind_of(PurePosixPath(records[0]))
            raise UserError(
                f'data.source={source}: holds texts ({texts[0]}) beside records ({records[0]}); '
                f'name one kind, such as {source.rstrip("/")}/*{kind}'
            )

    def _read(self, name: str, path: File, reading: Reading) -> Iterator[Document]:
        kind, packed = kind_of(path)
        if kind == '.parquet':
            yield from _documents(name, self._rows(path), reading)
            return
        with open_packed(path, packed) as file:
            lines = _without_mark(self._lines(path, file))
            if kind in RECORDS:
                yield from _documents(name, self._of_kind(kind, path, lines), reading)
                return
            label = _label_of(path, packed)
            for document in cut_documents(name, lines, self._unit, reading):
                record = {'text': document.text.strip(), 'label': label}
                yield Document(document.name, _json(record))

    def _of_kind(self, kind: str, path: File, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        if kind == '.jsonl':
            return self._json_records(path, lines)
        if kind == '.json':
            return self._json_whole(path, lines)
        if kind in CONLL:
            return self._sentences(path, lines)
        return self._table(path, lines, quoted=kind == '.csv')

    def _json_records(self, path: File, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f'{path}:{number}'
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f'data.source={place}: not JSON ({error})') from None
            yield str(number), self._object(place, record)

    def _json_whole(self, path: File, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        try:
            whole = json.loads(''.join(lines))
        except (ValueError, RecursionError) as error:
            raise UserError(f'data.source={path}: not JSON ({error})') from None
        if isinstance(whole, dict) and isinstance(whole.get('data'), list):
            yield from self._questions(path, whole['data'])
        elif isinstance(whole, dict):
            for key, record in whole.items():
                yield key, self._object(f'{path}:{key}', record)
        elif isinstance(whole, list):
            for number, record in enumerate(whole):
                yield str(number), self._object(f'{path}:{number}', record)
        else:
            raise UserError(f'data.source={path}: holds no records; give a list of objects')

    def _questions(self, path: File, articles: list[Any]) -> Iterator[tuple[str, Any]]:
        """SQuAD's layout (Rajpurkar et al. 2016) as flat records, as TFDS has them."""
        for number, article in enumerate(articles):
            try:
                for place, paragraph in enumerate(article['paragraphs']):
                    for asked in paragraph['qas']:
                        answers = asked['answers']
                        yield (
                            f'{number}:{place}',
                            {
                                'id': str(asked['id']),
                                'title': article.get('title', ''),
                                'context': paragraph['context'],
                                'question': asked['question'],
                                'answers': {
                                    'text': [answer['text'] for answer in answers],
                                    'answer_start': [a['answer_start'] for a in answers],
                                },
                            },
                        )
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"data.source={path}: article {number} is not in SQuAD's layout ({error!r})"
                ) from None

    def _table(
        self, path: File, lines: Iterator[str], *, quoted: bool
    ) -> Iterator[tuple[str, Any]]:
        how: dict[str, Any] = {'delimiter': ','}
        if not quoted:
            how = {'delimiter': '\t', 'quoting': csv.QUOTE_NONE}
        csv.field_size_limit(_LONGEST_FIELD)  # of the whole process; the usual one is 128 KiB
        reader = csv.reader(lines, strict=True, **how)
        names: list[str] = []
        try:
            for row in reader:
                if not names:
                    names = row
                    twice = sorted({name for name in names if names.count(name) > 1})
                    if twice:
                        raise UserError(
                            f'data.source={path}: names the column {twice[0]!r} twice; rename one'
                        )
                elif row:
                    if len(row) != len(names):
                        raise UserError(
                            f'data.source={path}:{reader.line_num}: has {len(row)} columns, where '
                            f'the first line names {len(names)}'
                        )
                    yield str(reader.line_num), dict(zip(names, row, strict=True))
        except csv.Error as error:
            raise UserError(f'data.source={path}:{reader.line_num}: {error}') from None

    def _sentences(self, path: File, lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
        """Tokens and tags; a line of blanks, a TAB alone too, ends a sentence.

        Columns are apart by TABs where a line has one, else by spaces; other blanks, such as one
        within a number that does not break, are a token's own.
        """
        tokens: list[str] = []
        tags: list[str] = []
        first = 1
        for number, line in enumerate(lines, 1):
            row = line.strip(' \t\r\n') if line.strip() else ''
            parts = [part for part in row.split('\t' if '\t' in row else ' ') if part]
            if parts and parts[0] != _DOCUMENT_LINE:
                if len(parts) < 2:
                    raise UserError(
                        f'data.source={path}:{number}: holds {line.strip()!r}, where a token and '
                        'its tag should stand'
                    )
                first = first if tokens else number
                tokens.append(parts[0])
                tags.append(parts[-1])
            elif tokens:
                yield str(first), {'tokens': tokens, 'tags': tags}
                tokens, tags = [], []
        if tokens:
            yield str(first), {'tokens': tokens, 'tags': tags}

    def _rows(self, path: File) -> Iterator[tuple[str, Any]]:
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.ParquetFile(path if hasattr(path, 'parts') else path.open())
        except pyarrow.ArrowInvalid as error:
            raise UserError(f'data.source={path}: not a parquet file ({error})') from None
        number = 0
        for batch in table.iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield str(number), {key: _text(f'{path}:{number}', x) for key, x in record.items()}

    def _object(self, place: str, record: Any) -> dict[str, Any]:
        if not isinstance(record, dict):
            raise UserError(
                f'data.source={place}: not a JSON object but {type(record).__name__}; give one '
                'object a record'
            )
        return record


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    """The lines without the byte order mark that some programs begin a file with."""
    for number, line in enumerate(lines):
        yield line.removeprefix('\ufeff') if number == 0 else line


def _documents(
    name: str, records: Iterator[tuple[str, Any]], reading: Reading
) -> Iterator[Document]:
    for place, record in records:
        place = f'{name}:{place}'
        text = require_text(place, _json(record))
        reading.documents += 1
        reading.text_bytes += len(text.encode())
        yield Document(place, text)


def _text(place: str, value: Any) -> Any:
    """Bytes of a parquet file as text."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UserError(f'data.source={place}: holds bytes that are not UTF-8') from None


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)


def _label_of(file: File, packed: str) -> str:
    """The label that a file of plain texts stands for: its suffix, or else its folder's name."""
    path = PurePosixPath(str(file).removesuffix(packed))
    if path.suffix not in ('', '.txt'):
        return path.suffix[1:]
    return path.parent.name or path.stem
