"""The score of one text under a model."""

from typing import Any

from lm.errors import UserError
from lm.evaluation.heldout import build_scorer, score_batches, text_windows
from lm.generation.language_model import LanguageModel
from lm.objectives import clm


def score_text(model: LanguageModel, text: str, batch_size: int) -> dict[str, Any]:
    """Loss and bits per byte of a text in consecutive windows of `train.seq_len`.

    Every token of the text is a target once; a window reads the token before its first target and
    nothing earlier. Bits per byte count every UTF-8 byte of the text.

    Args:
      model: a decoder.
      text: any text.
      batch_size: windows scored at once.

    Returns:
      `loss` (nats per token), `bits_per_byte`, `tokens`, `bytes`, `seq_len`.

    Raises:
      UserError: the model is no decoder: only a decoder's loss is the likelihood of a text.
    """
    if model.functional.family != 'decoder':
        raise UserError(
            f'--text: {model.config.model.name} is of the {model.functional.family} family; '
            "only a decoder's loss is a text's likelihood"
        )
    vocabulary, seq_len = model.tokenizer.vocabulary, model.config.train.seq_len
    scorer = build_scorer(model.functional, clm.build(clm.Options(), vocabulary, seq_len))
    tokens = model.tokenizer.encode(text)
    windows = text_windows(tokens, vocabulary, seq_len, batch_size)
    score = score_batches(scorer, model.params, windows)
    size = len(text.encode())
    return {
        'loss': score.loss,
        'bits_per_byte': score.bits_per_byte(size),
        'tokens': len(tokens),
        'bytes': size,
        'seq_len': seq_len,
    }
