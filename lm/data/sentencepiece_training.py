"""Training a SentencePiece model: the same text gives the same bytes on any machine."""

import io
import re
import zlib
from collections.abc import Iterable, Iterator

from lm.data.escape import escape
from lm.errors import UserError, did_you_mean
from lm.vocabulary import MODES, NUM_SENTINELS

KINDS = ('unigram', 'bpe', 'char', 'word')
CONTROL_PIECES = ('<mask>', *(f'<extra_id_{i}>' for i in range(NUM_SENTINELS)), *MODES)
"""Pieces that raw text never matches, with ids from 4 on, after pad, bos, eos and unk."""
SPECIAL_PIECES = ('<pad>', '<s>', '</s>', '<unk>', *CONTROL_PIECES)
DEFAULT_VOCAB_SIZE = 4096
"""Tokens where `model.vocab_size` is unset, or as many as the text supports."""
SAMPLE_BYTES_PER_ID = 1000
"""At most this much text for each id trains a tokenizer; of more, an even sample is taken."""

WORD_TOKEN = re.compile(r'\n|\w+|[^\w\s]')
"""What a word model keeps of a text; the blanks between are lost."""

# The sum of expected counts depends on how the sentences are dealt out to threads, so the number
# of threads is fixed: the model must not depend on the machine.
_THREADS = 2
_SENTENCE_CHARS = 4000
_BYTES_OF_A_CHAR = 4
_NUM_BYTE_PIECES = 256


def train_model(kind: str, texts: Iterable[str], vocab_size: int | None) -> bytes:
    """A serialised SentencePiece model.

    Byte fallback (but for `word`), identity normalisation, no dummy prefix, whitespace kept and
    runs of it allowed as pieces. Ids: pad 0, bos 1, eos 2, unk 3, then `CONTROL_PIECES`.

    Args:
      kind: one of `KINDS`.
      texts: the training documents; read once, a bounded sample of them is kept.
      vocab_size: number of ids, specials and bytes included; None takes `DEFAULT_VOCAB_SIZE`, or
        fewer where the text supports no more.

    Raises:
      UserError: an unknown kind, or a vocabulary larger or smaller than the text supports.

    References: Kudo & Richardson 2018 (SentencePiece); Kudo 2018 (unigram); Sennrich et al. 2016
      (BPE).
    """
    import sentencepiece

    if kind not in KINDS:
        raise UserError(f'data.tokenizer={kind}: no such kind{did_you_mean(kind, KINDS)}')
    # Not smaller for few ids: a size found must give the same model as that size asked for.
    most_bytes = SAMPLE_BYTES_PER_ID * max(vocab_size or 0, DEFAULT_VOCAB_SIZE)
    sentences = _sample(_sentences(kind, texts), most_bytes)
    if not any(sentence.strip() for sentence in sentences):
        raise UserError(f'data.tokenizer={kind}: the training text holds nothing but whitespace')
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type=kind,
            vocab_size=vocab_size or DEFAULT_VOCAB_SIZE,
            hard_vocab_limit=vocab_size is not None,
            byte_fallback=kind != 'word',
            normalization_rule_name='identity',
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            pad_piece='<pad>',
            control_symbols=list(CONTROL_PIECES),
            max_sentence_length=_SENTENCE_CHARS * _BYTES_OF_A_CHAR * 2,
            num_threads=_THREADS,
            minloglevel=3,
        )
    except RuntimeError as error:
        raise UserError(_explanation(kind, vocab_size or DEFAULT_VOCAB_SIZE, str(error))) from None
    _check_reached(kind, vocab_size, model.getvalue())
    return model.getvalue()


def word_spelling(text: str) -> str:
    """`text` as the word model sees it: words, marks and newlines, each after one space."""
    return ''.join(f' {token}' for token in WORD_TOKEN.findall(text))


def _check_reached(kind: str, vocab_size: int | None, model: bytes) -> None:
    """A char model may come out smaller than asked for; SentencePiece does not mind, we do."""
    import sentencepiece

    reached = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    if vocab_size is not None and reached < vocab_size:
        raise UserError(_too_large(kind, vocab_size, str(reached)))


def _explanation(kind: str, vocab_size: int, error: str) -> str:
    """SentencePiece's message as one line of ours."""
    if match := re.search(
        r'Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)', error
    ):
        return _too_large(kind, vocab_size, match[1])
    if match := re.search(r'smaller than required_chars\. \d+ vs (\d+)', error):
        return _too_small(kind, vocab_size, int(match[1]))
    if 'char_model_trainer' in error or 'vocab_size' in error:
        bytes_and_specials = len(SPECIAL_PIECES) + (kind != 'word') * _NUM_BYTE_PIECES
        return _too_small(kind, vocab_size, bytes_and_specials + 1)
    return f'data.tokenizer={kind}: SentencePiece could not be trained on this text: {error}'


def _too_large(kind: str, vocab_size: int, limit: str) -> str:
    return (
        f'model.vocab_size={vocab_size}: larger than the training text supports for a {kind} '
        f'tokenizer; the largest that works is {limit}'
    )


def _too_small(kind: str, vocab_size: int, least: int) -> str:
    return (
        f'model.vocab_size={vocab_size}: too small for a {kind} tokenizer of this text (specials, '
        f'bytes and the characters it needs); the smallest that works is {least}'
    )


def _sentences(kind: str, texts: Iterable[str]) -> Iterator[str]:
    """Training sentences: whole text in stretches of bounded length, newlines inside.

    A sentence of several lines lets pieces hold newlines (`.\\n\\n`), and no line is too long for
    SentencePiece, which would skip it.
    """
    for text in texts:
        spelled = word_spelling(text) if kind == 'word' else escape(text)
        start = 0
        while start < len(spelled):
            stop = stretch_end(spelled, start, _SENTENCE_CHARS)
            # The trainer's Python iterator drops a newline at the end of a sentence, hence the
            # cut in front of one.
            yield spelled[start:stop]
            start = stop


def stretch_end(text: str, start: int, most: int) -> int:
    """Where a stretch of `text` from `start` ends: at a blank if any, at most `most` on."""
    stop = start + most
    if stop >= len(text):
        return len(text)
    cut = max(text.rfind('\n', start + 1, stop), text.rfind(' ', start + 1, stop))
    return cut if cut > start else stop


def _sample(sentences: Iterable[str], most_bytes: int) -> list[str]:
    """At most `most_bytes` of the sentences, spread evenly and chosen by their number alone.

    Keeps the sentences whose number's hash falls below a threshold, and halves the threshold
    whenever too many bytes are kept: one pass, bounded memory, the same choice every time.
    """
    kept: list[tuple[int, str]] = []
    size = 0
    threshold = 2**32
    for number, sentence in enumerate(sentences):
        rank = zlib.crc32(number.to_bytes(8, 'little'))
        if rank >= threshold:
            continue
        kept.append((rank, sentence))
        size += len(sentence.encode())
        while size > most_bytes and len(kept) > 1:
            threshold //= 2
            kept = [(r, s) for r, s in kept if r < threshold]
            size = sum(len(s.encode()) for _, s in kept)
    return [sentence for _, sentence in kept]
