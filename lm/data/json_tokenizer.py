"""A `tokenizer.json` of the `tokenizers` package, as Hugging Face folders hold it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from lm.data.special_ids import BOS, EOS, MASK, PAD, SENTINELS, UNK, complete
from lm.errors import UserError
from lm.vocabulary import MODES

BESIDE = ('tokenizer_config.json', 'special_tokens_map.json')
"""Files that say which special id plays which part."""

_DECLARED = {
    PAD: ('pad_token',),
    BOS: ('bos_token', 'cls_token'),
    EOS: ('eos_token', 'sep_token'),
    UNK: ('unk_token',),
    MASK: ('mask_token',),
}
_SPELLED = {
    PAD: ('[PAD]', '<pad>'),
    BOS: ('[CLS]', '<|begin_of_text|>', '<s>'),
    EOS: ('[SEP]', '<|end_of_text|>', '<|endoftext|>', '</s>'),
    UNK: ('[UNK]', '<unk>'),
    MASK: ('[MASK]', '<mask>'),
}
_PROBE = " A  b\t\n\n c\u00e9 e\u0301 \u2581 \x10 <s>[MASK]<|endoftext|> \U0001f600 , it 's . "
# Long texts are encoded in stretches, and so many characters at once: the package holds some
# 150 bytes a character. Between two words no tokenizer that splits there sees a difference.
_STRETCH_CHARS = 1 << 16
_CALL_CHARS = 1 << 20
_BETWEEN_WORDS = re.compile('(?<=[a-z]) (?=[a-z])')
_EMPTY = np.empty(0, np.int32)


class JsonTokenizer:
    """What a `tokenizer.json` describes, with the special ids that training needs.

    Attributes:
      vocabulary: the special ids and the number of all ids.
      lossless: whether `decode(encode(text)) == text`, tried on a text full of traps.
      sha256: of its files, hexadecimal.
      files: `tokenizer.json` and what says the parts of its special ids, by name.
      appended: the pieces of special ids after the tokenizer's own, by id.
    """

    def __init__(self, files: Mapping[str, bytes], rows: int | None = None, path: str | Path = ''):
        """
        Args:
          files: `tokenizer.json` and any of `BESIDE`, by name.
          rows: ids that the model trained with it has; None: as many as it takes.
          path: where they come from, for errors.

        Raises:
          UserError: they cannot be read, the package is missing, or there are more ids than `rows`.
        """
        self.files = dict(files)
        self.sha256 = _digest(self.files)
        self._codec = read_json(self.files['tokenizer.json'], path)
        ids = self._codec.get_vocab(with_added_tokens=True)
        self._own = max(ids.values(), default=-1) + 1
        added = self._codec.get_added_tokens_decoder()
        known = _parts(self.files, ids, {token.content: i for i, token in added.items()}, path)
        unknown = getattr(self._codec.model, 'unk_token', None)
        if unknown in ids:
            known[UNK] = ids[unknown]
        self.vocabulary, self.appended = complete(self._own, known, rows, path)
        marked = {i for i, token in added.items() if token.special} - {self.vocabulary.unk_id}
        self._special = np.array(sorted(marked | self.vocabulary.special_ids), np.int32)
        self._bytes = _byte_characters() if _is_byte_level(self._codec) else None
        self._cuts = _splits_words(self._codec)
        try:
            self.lossless = self.decode(self.encode(_PROBE)) == _PROBE
        except Exception as error:  # the package raises nothing more special
            said = str(error).splitlines()[0]
            raise UserError(
                f'data.tokenizer={path}: its tokenizer.json does not encode every text ({said})'
            ) from None

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens], without bos or eos; no special id ever comes out of text but unk."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""
        stretches: list[str] = []
        counts: list[int] = []
        for text in texts:
            parts = list(_stretches(text)) if self._cuts else [text]
            stretches.extend(parts)
            counts.append(len(parts))
        ids = self._encoded(stretches)
        return [np.concatenate([_EMPTY, *(next(ids) for _ in range(n))]) for n in counts]

    def decode(self, ids: Iterable[SupportsIndex] | np.ndarray) -> str:
        """The text of `ids`; special ids and ids beyond the tokenizer's own are left out."""
        special = set(self._special.tolist())
        own = [i for i in map(int, ids) if i not in special and 0 <= i < self._own]
        text: str = self._codec.decode(own, skip_special_tokens=False)
        return text

    def pieces(self, ids: Iterable[SupportsIndex] | np.ndarray) -> list[str]:
        """A readable piece for every id; a space of a byte-level one is shown as U+2581."""
        return [self._piece(i) for i in map(int, ids)]

    def _piece(self, i: int) -> str:
        piece = self._codec.id_to_token(i) if 0 <= i < self._own else self.appended.get(i)
        if piece is None:
            return f'<{i}>'
        if self._bytes is None or i in self._special or not set(piece) <= set(self._bytes):
            return str(piece)
        raw = bytes(self._bytes[character] for character in piece)
        try:
            return raw.decode().replace(' ', '\u2581')
        except UnicodeDecodeError:  # a part of a character
            return ''.join(f'<0x{byte:02X}>' for byte in raw)

    def _encoded(self, stretches: Sequence[str]) -> Iterator[np.ndarray]:
        start = 0
        while start < len(stretches):
            stop, size = start + 1, len(stretches[start])
            while stop < len(stretches) and size + len(stretches[stop]) <= _CALL_CHARS:
                size += len(stretches[stop])
                stop += 1
            group = stretches[start:stop]
            for text, found in zip(group, self._codec.encode_batch_fast(
                group, add_special_tokens=False
            ), strict=True):  # fmt: skip
                ids = np.asarray(found.ids, np.int32)
                yield self._without_special(text) if self._has_special(ids) else ids
            start = stop

    def _has_special(self, ids: np.ndarray) -> bool:
        return bool(np.isin(ids, self._special).any())

    def _without_special(self, text: str) -> np.ndarray:
        """`text` cut within every spelling that the model takes for a special id.

        `encode_special_tokens` keeps added tokens out of text, but a unigram or word model also
        matches their spellings as ordinary pieces.
        """
        found = self._codec.encode(text, add_special_tokens=False)
        ids = np.asarray(found.ids, np.int32)
        parts, start = [], 0
        for place in np.flatnonzero(np.isin(ids, self._special)):
            begin, end = found.offsets[place]
            if begin < start or end - begin < 2:
                continue
            parts.append(text[start : begin + 1])
            start = begin + 1
        if not parts:  # a single character: all that is left is to say that it is none of ours
            ids[np.isin(ids, self._special)] = self.vocabulary.unk_id
            return ids[~np.isin(ids, self._special)]
        return np.concatenate(list(self._encoded([*parts, text[start:]])))


def files_beside(file: Path) -> dict[str, bytes]:
    """A `tokenizer.json` and the files of its folder that say more of it, by name.

    Raises:
      OSError: one of them cannot be read.
    """
    beside = {name: file.with_name(name) for name in BESIDE}
    files = {'tokenizer.json': file.read_bytes()}
    return files | {name: at.read_bytes() for name, at in beside.items() if at.is_file()}


def read_json(data: bytes, path: str | Path) -> Any:
    """A `tokenizers.Tokenizer` that cuts nothing short, pads nothing and takes text for text.

    Raises:
      UserError: it is none, or the package is missing.
    """
    package = tokenizers_package(f'data.tokenizer={path}')
    try:
        codec = package.Tokenizer.from_buffer(data)
    except ValueError as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f'data.tokenizer={path}: not a tokenizer.json that the tokenizers package '
            f'{package.__version__} reads ({said})'
        ) from None
    codec.no_truncation()
    codec.no_padding()
    codec.encode_special_tokens = True
    return codec


def tokenizers_package(words: str) -> Any:
    """The package `tokenizers`.

    Args:
      words: the field or flag that needs it, and its value.

    Raises:
      UserError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            f"{words}: needs the tokenizers package; pip install 'lm-lab[hub]'"
        ) from None
    return tokenizers


def declared(files: Mapping[str, bytes], path: str | Path) -> dict[str, str]:
    """What the files in `BESIDE` call the usual five, by our spelling; the first file decides.

    Raises:
      UserError: one of them is not a JSON object.
    """
    said: dict[str, str] = {}
    for tree in [read_object(files[name], f'{path}: {name}') for name in BESIDE if name in files]:
        for part, keys in _DECLARED.items():
            named = [spelling(tree[key]) for key in keys if tree.get(key)]
            if named:
                said.setdefault(part, named[0])
    return said


def spelling(token: Any) -> str:
    """The text of a token, which some files write as an object of its settings."""
    return str(token['content'] if isinstance(token, dict) else token)


def read_object(data: bytes, words: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
      UserError: it is none.
    """
    try:
        tree = json.loads(data)
    except ValueError as error:
        raise UserError(f'data.tokenizer={words}: is not JSON ({error})') from None
    if not isinstance(tree, dict):
        raise UserError(f'data.tokenizer={words}: is not a JSON object')
    return tree


def _parts(
    files: Mapping[str, bytes], ids: Mapping[str, int], added: Mapping[str, int], path: str | Path
) -> dict[str, int]:
    """The special ids that the tokenizer has, by our spelling; bos falls back to eos."""
    said = declared(files, path)
    known = {}
    for part, spellings in _SPELLED.items():
        for name in (said.get(part, ''), *spellings):
            if name in ids:
                known[part] = ids[name]
                break
    # Only added tokens: ordinary pieces may be spelled like these.
    known |= {piece: added[piece] for piece in (*SENTINELS, *MODES) if piece in added}
    if EOS in known:
        known.setdefault(BOS, known[EOS])
    return known


def _stretches(text: str) -> Iterator[str]:
    start = 0
    while match := _BETWEEN_WORDS.search(text, start + _STRETCH_CHARS):
        yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def _splits_words(codec: Any) -> bool:
    """Whether a text may be cut before the space between two words, and give the same ids."""
    if codec.pre_tokenizer is None:
        return False

    def words(text: str) -> list[str]:
        normal = codec.normalizer.normalize_str(text) if codec.normalizer else text
        return [word for word, _ in codec.pre_tokenizer.pre_tokenize_str(normal)]

    first, second = words('ab'), words(' cd')
    return len(first) == len(second) == 1 and words('ab cd') == first + second


def _is_byte_level(codec: Any) -> bool:
    tree = json.loads(codec.to_str())['decoder'] or {}
    return any(d['type'] == 'ByteLevel' for d in [tree, *tree.get('decoders', [])] if d)


def _byte_characters() -> dict[str, int]:
    """Byte-level BPE's character for every byte (Radford et al. 2019): printable ones stay."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f'{name} {len(data)}\n'.encode())
        digest.update(data)
    return digest.hexdigest()
