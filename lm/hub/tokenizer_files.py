"""The tokenizer of an exported Hugging Face folder: files that transformers reads unchanged.

A SentencePiece model is spelled out as a `tokenizer.json`, normalisation and decoding included, and
tried on texts full of traps before anyone relies on it.
"""

import json
import sys
from itertools import pairwise
from typing import Any

from lm.data.escape import SPELLINGS
from lm.data.json_tokenizer import JsonTokenizer, read_json, tokenizers_package
from lm.data.sentencepiece_tokenizer import SentencePieceTokenizer
from lm.data.tokenizer import Tokenizer
from lm.vocabulary import Vocabulary

_SPACE = '\u2581'
_ESCAPE = '\x10'
_TEXTS = (
    '', ' ', 'a', 'The cat sat on the mat.', '  two  spaces   and three', 'trailing  ', '\n',
    'lines\n\nand\ttabs\t\t\n', 'na\u00efve caf\u00e9 \u2014 \u201cquoted\u201d 3.14 x\u00b2',
    '\u4e2d\u6587\u5b57\u7b26 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0627\u0644',
    '\U0001f600 \U0001f469\u200d\U0001f680', 'def f(x):\n    return x[0] != {1: "a"}\n',
    '--------  ========', '<0x41> <0x0A>', 'aaaaaaa bbbb    cccc        d', 'e\u0301 \ufb01',
)  # fmt: skip
"""Tried with every model."""
_TRAPS = (
    '\x10', '\x10\x10_', '\u2581', 'a\u2581b \u2581', '\u2585#', '\0@', '\x0b|\t', '\x10\t\x10|',
    'a\r\nb\r', '\x10@\x10#\x10_\x10|',
)  # fmt: skip
"""What models trained here keep apart too, and others do not."""
_INPUTS_OF_BERT = ['input_ids', 'token_type_ids', 'attention_mask']


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """The files, by name, from which `AutoTokenizer` gives the ids and the text that ours does.

    Without special ids around the text (`add_special_tokens=False`); a special token that is
    spelled out in the text, such as `<mask>`, is that token to transformers and text to us. Two
    things may change a token without changing the text: texts of more than 65,536 characters are
    cut into stretches here; and where a unigram model has the same pieces in two orders, as in a
    long row of dashes, the rounding of their sum decides, in 32 bits here and in 64 there. Where
    the two differ on the texts tried, and for a `word` model, there is `tokenizer.model` alone,
    and stderr says so.

    Args:
      tokenizer: as `train_tokenizer` or `load_tokenizer` give it.

    Raises:
      UserError: the package `tokenizers` is missing.
    """
    if isinstance(tokenizer, JsonTokenizer):
        return _files_of_json(tokenizer)
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise TypeError(f'{type(tokenizer).__name__} is no tokenizer that has files')
    package = tokenizers_package('tokenizer.json')
    codec = _Spelled(package, tokenizer).codec()
    difference = 'has no counterpart there' if codec is None else _difference(codec, tokenizer)
    if codec is None or difference:
        print(
            f'note: no tokenizer.json is written: the tokenizer {difference}; transformers cannot '
            'use it as it is, tokenizer.model is all there is',
            file=sys.stderr,
        )
        return dict(tokenizer.files)
    names = {i: codec.id_to_token(i) for i in range(tokenizer.vocabulary.size)}
    return {
        **tokenizer.files,
        'tokenizer.json': codec.to_str().encode(),
        'tokenizer_config.json': _config(tokenizer.vocabulary, names),
    }


class _Spelled:
    """A SentencePiece model as the parts of a `tokenizers.Tokenizer`."""

    def __init__(self, package: Any, tokenizer: SentencePieceTokenizer):
        from sentencepiece import sentencepiece_model_pb2

        message: Any = sentencepiece_model_pb2
        self._package, self._tokenizer = package, tokenizer
        self._proto = message.ModelProto.FromString(tokenizer.files['tokenizer.model'])
        self._kinds = message.ModelProto.SentencePiece
        self._model_kind = message.TrainerSpec.ModelType.Name(self._proto.trainer_spec.model_type)

    def codec(self) -> Any:
        """The tokenizer, or None for a kind that has no counterpart."""
        model = {'UNIGRAM': self._unigram, 'BPE': self._merging, 'CHAR': self._merging}.get(
            self._model_kind
        )
        if model is None:
            return None
        package = self._package
        codec = package.Tokenizer(model())
        codec.normalizer = package.normalizers.Sequence(self._normalizers())
        codec.decoder = package.decoders.Sequence(self._decoders())
        missing = self._missing_characters()
        if missing:
            pattern = package.Regex('[' + ''.join(f'\\x{{{ord(c):x}}}' for c in missing) + ']')
            codec.pre_tokenizer = package.pre_tokenizers.Split(pattern, 'isolated')
        own = [p.piece for p in self._proto.pieces if p.type == self._kinds.CONTROL]
        codec.add_special_tokens(
            [
                package.AddedToken(piece, normalized=False, special=True)
                for piece in (*own, *self._tokenizer.appended.values())
            ]
        )
        return codec

    def _unigram(self) -> Any:
        """Pieces and scores; those that text never matches get a score that always loses."""
        pieces, kinds = self._proto.pieces, self._kinds
        normal = [p.score for p in pieces if p.type == kinds.NORMAL]
        # Worse than a path of single pieces, or unknown ones, as long as any of these spellings.
        longest = max((len(p.piece) for p in pieces if p.type != kinds.NORMAL), default=0)
        loses = (min(normal) - 10) * (longest + 1)
        scores = {kinds.NORMAL: lambda p: p.score, kinds.USER_DEFINED: lambda p: _forced(p, normal)}
        vocabulary = [(p.piece, scores.get(p.type, lambda p: loses)(p)) for p in pieces]
        return self._package.models.Unigram(
            vocabulary, unk_id=self._tokenizer.vocabulary.unk_id,
            byte_fallback=self._proto.trainer_spec.byte_fallback,
        )  # fmt: skip

    def _merging(self) -> Any:
        """BPE with every way to make a piece of two, the best pieces first; of `char`, none."""
        pieces, kinds = self._proto.pieces, self._kinds
        ids = {p.piece: i for i, p in enumerate(pieces)}
        normal = {p.piece for p in pieces if p.type == kinds.NORMAL}
        ways = []
        for p in pieces if self._model_kind == 'BPE' else ():
            for cut in range(1, len(p.piece)):
                left, right = p.piece[:cut], p.piece[cut:]
                if p.type == kinds.NORMAL and left in normal and right in normal:
                    ways.append((-p.score, ids[left], ids[right], left, right))
        return self._package.models.BPE(
            ids, [(left, right) for *_, left, right in sorted(ways)],
            unk_token=pieces[self._tokenizer.vocabulary.unk_id].piece, fuse_unk=True,
            byte_fallback=self._proto.trainer_spec.byte_fallback,
        )  # fmt: skip

    def _normalizers(self) -> list[Any]:
        made, package, spec = self._package.normalizers, self._package, self._proto.normalizer_spec
        steps = []
        if self._tokenizer.trained_here:
            # The escape character first, and tab after what it becomes.
            steps += [made.Replace(c, s) for c, s in SPELLINGS.items() if c != '\t']
            steps += [made.Replace('\t', SPELLINGS['\t'])]
        if spec.precompiled_charsmap:
            steps += [made.Precompiled(spec.precompiled_charsmap)]
        if spec.remove_extra_whitespaces:
            steps += [
                made.Replace(package.Regex(rf'\A +|[ {_SPACE}]+\z'), ''),
                made.Replace(package.Regex(' {2,}'), ' '),
            ]
        if spec.add_dummy_prefix:
            steps += [made.Prepend(_SPACE)]
        return [*steps, made.Replace(' ', _SPACE)]

    def _decoders(self) -> list[Any]:
        made, spec = self._package.decoders, self._proto.normalizer_spec
        unknown = self._proto.pieces[self._tokenizer.vocabulary.unk_id].piece
        steps = [made.Replace(unknown, self._proto.trainer_spec.unk_surface)]
        steps += [made.Replace(_SPACE, ' '), made.ByteFallback(), made.Fuse()]
        if spec.add_dummy_prefix or spec.remove_extra_whitespaces:
            steps += [made.Strip(' ', 1, 0)]
        if self._tokenizer.trained_here:
            # One after another instead of at once: an escaped escape character is first spelled
            # with a tab, which no escaped text holds, so that its second half begins nothing.
            kept = _ESCAPE + '\t'
            steps += [made.Replace(_ESCAPE * 2, kept), made.Replace(SPELLINGS['\t'], '\t')]
            steps += [made.Replace(s, c) for c, s in SPELLINGS.items() if c not in (_ESCAPE, '\t')]
            steps += [made.Replace(kept, _ESCAPE)]
        return steps

    def _missing_characters(self) -> str:
        """Characters of spellings like `<0x41>` that are no pieces themselves, sorted.

        A unigram model would prefer such a spelling as a whole to an unknown character. To stop
        the text at one changes nothing else: it is in no piece, and becomes its own bytes.
        """
        if self._model_kind != 'UNIGRAM' or not self._proto.trainer_spec.byte_fallback:
            return ''
        pieces, kinds = self._proto.pieces, self._kinds
        silent = ''.join(p.piece for p in pieces if p.type != kinds.NORMAL)
        known = ''.join(p.piece for p in pieces if p.type == kinds.NORMAL)
        return ''.join(sorted(set(silent) - set(known)))


def _forced(piece: Any, scores: list[float]) -> float:
    """SentencePiece's score of a user-defined piece."""
    return len(piece.piece.encode()) * max(scores) - 0.1


def _difference(codec: Any, tokenizer: SentencePieceTokenizer) -> str:
    """The first of our texts that `codec` encodes or decodes otherwise, in words; '' if none."""
    theirs = read_json(codec.to_str().encode(), 'tokenizer.json')
    texts = _TEXTS + _TRAPS * tokenizer.trained_here
    whole = ' '.join(texts)
    for text in (*texts, *(a + b for a, b in pairwise(texts)), whole):
        ids = tokenizer.encode(text).tolist()
        if theirs.encode(text, add_special_tokens=False).ids != ids:
            return f'encodes {text!r} otherwise'
        if theirs.decode(ids, skip_special_tokens=False) != tokenizer.decode(ids):
            return f'decodes {text!r} otherwise'
    for i, piece in tokenizer.appended.items():
        if theirs.token_to_id(piece) != i:
            return f'has another id for {piece}'
    return ''


def _files_of_json(tokenizer: JsonTokenizer) -> dict[str, bytes]:
    """Its own files where they name a class; else, and with ids after its own, in one as it is."""
    files = dict(tokenizer.files)
    config = json.loads(files.get('tokenizer_config.json', b'{}'))
    if config.get('tokenizer_class') and not tokenizer.appended:
        return files
    package = tokenizers_package('tokenizer.json')
    codec = package.Tokenizer.from_buffer(files['tokenizer.json'])
    codec.add_special_tokens(
        [package.AddedToken(p, normalized=False) for p in tokenizer.appended.values()]
    )
    if any(codec.token_to_id(piece) != i for i, piece in tokenizer.appended.items()):
        print(
            'note: tokenizer.json is written without the special tokens '
            f'{", ".join(list(tokenizer.appended.values())[:3])} ...: it has gaps in its ids',
            file=sys.stderr,
        )
        return files
    if tokenizer.appended:
        files['tokenizer.json'] = codec.to_str().encode()
    names = {i: codec.id_to_token(i) for i in range(tokenizer.vocabulary.size)}
    files['tokenizer_config.json'] = _config(tokenizer.vocabulary, names, config)
    return files


def _config(
    vocabulary: Vocabulary, names: dict[int, Any], config: dict[str, Any] | None = None
) -> bytes:
    """`tokenizer_config.json`: a class that leaves tokenizer.json as it is, and the special ids."""
    named = {
        'bos_token': vocabulary.bos_id,
        'eos_token': vocabulary.eos_id,
        'unk_token': vocabulary.unk_id,
        'pad_token': vocabulary.pad_id,
        'mask_token': vocabulary.mask_id,
    }
    of_bert = (names[vocabulary.bos_id], names[vocabulary.eos_id]) == ('[CLS]', '[SEP]')
    if of_bert:
        named |= {'cls_token': vocabulary.bos_id, 'sep_token': vocabulary.eos_id}
    extra = [names[i] for i in (*vocabulary.sentinel_ids, *vocabulary.mode_ids)]
    tree = {
        **(config or {}),
        'tokenizer_class': 'PreTrainedTokenizerFast',
        'clean_up_tokenization_spaces': False,
        **{key: names[i] for key, i in named.items() if i is not None},
        **({'model_input_names': _INPUTS_OF_BERT} if of_bert else {}),
        **({'additional_special_tokens': extra} if extra else {}),
    }
    return (json.dumps(tree, indent=2) + '\n').encode()
