"""Answers that a model writes itself: decoded greedily, and compared as SQuAD compares."""

import re
import string
from collections.abc import Sequence

from lm.generation.language_model import LanguageModel
from lm.generation.sample import generate

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and white space beyond one between words.

    Rajpurkar et al. 2016, section 6.1. A text of which nothing would be left stays, in lower case.
    """
    bare = ' '.join(_ARTICLES.sub(' ', text.lower().translate(_PUNCTUATION)).split())
    return bare or text.lower().strip()


def written(
    model: LanguageModel,
    contexts: Sequence[str],
    stop: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
) -> list[str]:
    """What the model says behind each context, up to the first of `stop`; greedily."""
    # An encoder-decoder is not stopped while it decodes: its text is cut here.
    stops = stop if model.functional.family == 'decoder' else ()
    texts: list[str] = []
    for first in range(0, len(contexts), batch_size):
        some = contexts[first : first + batch_size]
        texts += generate(
            model, some, max_new_tokens=max_new_tokens, temperature=0.0, stop=tuple(stops)
        )
    # One that learnt texts from texts says its answer alone.
    alone = model.functional.family != 'decoder' and model.config.objective.name == 'text_to_text'
    answers = []
    for context, text in zip(contexts, texts, strict=True):
        answer = text if alone else text[len(context) :]
        ends = [place for one in stop if (place := answer.find(one)) >= 0]
        answers.append(answer[: min(ends, default=len(answer))])
    return answers


def is_right(answer: str, right: Sequence[str]) -> bool:
    """Whether an answer is one of those that are right."""
    return normalised(answer) in {normalised(text) for text in right}
