"""A `tokenizer.json` of the `tokenizers` package, as Hugging Face folders hold it."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from lm.data.alignment import NO_SPANS, end_to_end
from lm.data.roles import BESIDE, CONFIG, KEYS, SPELLED, files_of, named, numbered
from lm.data.special_ids import BOS, EOS, SENTINELS, TRAINED_WITH, UNK, complete
from lm.errors import UserError
from lm.vocabulary import MODES

_PROBE = " A  b\t\n\n c\u00e9 e\u0301 \u2581 \x10 <s>[MASK]<|endoftext|> \U0001f600 , it 's . "
# Long texts are encoded in stretches, and so many characters at once: the package holds some
# 150 bytes a character. Between two words no tokenizer that splits there sees a difference.
_STRETCH_CHARS = 1 << 16
_CALL_CHARS = 1 << 20
_BETWEEN_WORDS = re.compile('(?<=[a-z]) (?=[a-z])')


class JsonTokenizer:
    """What a `tokenizer.json` describes, with the special ids that training needs.

    Attributes:
      vocabulary: the special ids and the number of all ids.
      lossless: whether `decode(encode(text)) == text`, tried on a text full of traps.
      sha256: of its files, hexadecimal.
      files: `tokenizer.json` and what says the parts of its special ids, by name; they need no
        `config.json`: what that alone says is written into `tokenizer_config.json`.
      appended: the pieces of special ids after the tokenizer's own, by id.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        rows: int | None = None,
        path: str | Path = '',
        words: str = TRAINED_WITH,
    ):
        """
        Args:
          files: `tokenizer.json`, and any of `roles.BESIDE` and `roles.CONFIG`, by name.
          rows: ids that the model trained with it has; None: as many as it takes.
          path: where they come from, for errors.
          words: the field or flag that gives the path.

        Raises:
          UserError: they cannot be read, the package is missing, or there are more ids than `rows`.
        """
        name = f'{words}={path}'
        self._codec = read_json(files['tokenizer.json'], name)
        self._own = max(self._codec.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        known, self.files = _parts(self._codec, files, f'{name}: ')
        self.sha256 = _digest(self.files)
        vocabulary, self.appended = complete(self._own, known, rows, path, words)
        self.vocabulary = replace(vocabulary, pieces=self.pieces)
        added = self._codec.get_added_tokens_decoder()
        marked = {i for i, token in added.items() if token.special} - {self.vocabulary.unk_id}
        self._special = np.array(sorted(marked | self.vocabulary.special_ids), np.int32)
        self._bytes = _byte_characters() if _is_byte_level(self._codec) else None
        self._cuts = _splits_words(self._codec)
        try:
            self.lossless = self.decode(self.encode(_PROBE)) == _PROBE
        except Exception as error:  # the package raises nothing more special
            said = str(error).splitlines()[0]
            raise UserError(
                f'{name}: its tokenizer.json does not encode every text ({said})'
            ) from None
        separators = _pair_separators(self._codec, vocabulary.eos_id)
        self.vocabulary = replace(self.vocabulary, pair_separators=separators)

    def encode(self, text: str) -> np.ndarray:
        """int32 [tokens], without bos or eos; no special id ever comes out of text but unk."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """`encode` of each text, on all cores."""
        return [ids for ids, _ in self._joined(texts, aligned=False)]

    def encode_aligned(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
        """`encode` of each text with the characters of each id; see `Tokenizer`."""
        return self._joined(texts, aligned=True)

    def _joined(
        self, texts: Sequence[str], *, aligned: bool
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ids and, if asked for, spans of each text, which is encoded in stretches."""
        stretches = [list(_stretches(text)) if self._cuts else [text] for text in texts]
        found = self._encoded([part for parts in stretches for part in parts], aligned)
        return [end_to_end([(part, *next(found)) for part in parts]) for parts in stretches]

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

    def _encoded(
        self, stretches: Sequence[str], aligned: bool
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        encode = self._codec.encode_batch if aligned else self._codec.encode_batch_fast
        start = 0
        while start < len(stretches):
            stop, size = start + 1, len(stretches[start])
            while stop < len(stretches) and size + len(stretches[stop]) <= _CALL_CHARS:
                size += len(stretches[stop])
                stop += 1
            group = stretches[start:stop]
            for text, found in zip(group, encode(group, add_special_tokens=False), strict=True):
                ids = np.asarray(found.ids, np.int32)
                if self._has_special(ids):
                    yield self._without_special(text, aligned)
                else:
                    yield ids, _spans(found.offsets) if aligned else NO_SPANS
            start = stop

    def _has_special(self, ids: np.ndarray) -> bool:
        return bool(np.isin(ids, self._special).any())

    def _without_special(self, text: str, aligned: bool) -> tuple[np.ndarray, np.ndarray]:
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
            stays = ~np.isin(ids, self._special)
            return ids[stays], _spans(found.offsets)[stays] if aligned else NO_SPANS
        parts.append(text[start:])
        pairs = self._encoded(parts, aligned)
        return end_to_end([(part, *next(pairs)) for part in parts])


def _spans(offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.asarray(offsets, np.int32).reshape(-1, 2)


def _pair_separators(codec: Any, eos_id: int) -> int:
    """How many eos the tokenizer's own template has between two texts; 1 if it has none."""
    pair = codec.encode('a', 'b')
    of_text = pair.sequence_ids  # None of what the template puts in
    between = pair.ids[: of_text.index(1)] if 1 in of_text else []
    return max(between.count(eos_id), 1)


def files_beside(file: Path) -> dict[str, bytes]:
    """A `tokenizer.json` and the files of its folder that say more of it, by name.

    Raises:
      OSError: one of them cannot be read.
    """
    return {'tokenizer.json': file.read_bytes(), **files_of(file.parent)}


def read_json(data: bytes, words: str) -> Any:
    """A `tokenizers.Tokenizer` that cuts nothing short, pads nothing and takes text for text.

    Args:
      data: a `tokenizer.json`.
      words: the field or flag that names it, and its value.

    Raises:
      UserError: it is none, or the package is missing.
    """
    package = tokenizers_package(words)
    try:
        codec = package.Tokenizer.from_buffer(data)
    except ValueError as error:
        said = str(error).splitlines()[0]
        raise UserError(
            f'{words}: not a tokenizer.json that the tokenizers package {package.__version__} '
            f'reads ({said})'
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


def _parts(
    codec: Any, files: Mapping[str, bytes], before: str
) -> tuple[dict[str, int], dict[str, bytes]]:
    """The special ids that the tokenizer has, by our spelling, and the files that say them.

    What is named decides, then config.json's ids, then the usual spellings; bos falls back to eos.
    """
    ids = codec.get_vocab(with_added_tokens=True)
    said = {part: ids[token] for part, token in named(files, before).items() if token in ids}
    own = set(ids.values())
    told = {
        part: i
        for part, i in numbered(files, before).items()
        if part not in said and i in own and (part == UNK or not _comes_out_of_text(codec, i))
    }
    kept = {name: data for name, data in files.items() if name != CONFIG}
    known = _completed(codec, told | said)
    if known != _completed(codec, said):
        config = json.loads(kept.get(BESIDE[0], b'{}'))
        config |= {KEYS[part][0]: codec.id_to_token(i) for part, i in told.items()}
        kept[BESIDE[0]] = (json.dumps(config, indent=2) + '\n').encode()
    return known, kept


def _completed(codec: Any, said: Mapping[str, int]) -> dict[str, int]:
    """What was said, and what the spellings of pieces say otherwise."""
    ids = codec.get_vocab(with_added_tokens=True)
    usual = {part: [ids[s] for s in spellings if s in ids] for part, spellings in SPELLED.items()}
    known = {part: found[0] for part, found in usual.items() if found} | dict(said)
    # Only added tokens: ordinary pieces may be spelled like these.
    added = {token.content: i for i, token in codec.get_added_tokens_decoder().items()}
    known |= {piece: added[piece] for piece in (*SENTINELS, *MODES) if piece in added}
    unknown = getattr(codec.model, 'unk_token', None)
    if unknown in ids:
        known[UNK] = ids[unknown]
    if EOS in known:
        known.setdefault(BOS, known[EOS])
    return known


def _comes_out_of_text(codec: Any, i: int) -> bool:
    """Whether an id is one of text: a character, a word, or what stands for unknown ones.

    A config.json may give such an id where its writer left a default.
    """
    if i in codec.get_added_tokens_decoder():
        return False
    piece = codec.id_to_token(i)
    if len(piece) == 1 or piece == getattr(codec.model, 'unk_token', None):
        return True
    text = codec.decode([i], skip_special_tokens=False)
    try:
        return any(i in codec.encode(t, add_special_tokens=False).ids for t in (text, f'a{text}'))
    except Exception:  # it encodes not every text, which is told of later
        return False


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
