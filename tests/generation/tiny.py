"""A tokenizer of single letters and a tiny model of each family that uses it."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from lm.config import Config, ObjectiveConfig
from lm.generation.language_model import LanguageModel
from lm.named_configs import load_config
from lm.resolution import resolve_options
from lm.vocabulary import Vocabulary
from tests.models.tiny import perturbed, tiny

LETTERS = 'abcdefghijklmnopqrstuvwxyz .'
_FIRST = 5 + 4 + 3
CONTEXT = 20


class Letters:
    """A letter an id, behind the special ids."""

    vocabulary = Vocabulary(
        _FIRST + len(LETTERS), 0, 1, 2, 3, 4, tuple(range(5, 9)), tuple(range(9, 12))
    )

    def encode(self, text: str) -> np.ndarray:
        return np.array([_FIRST + LETTERS.index(letter) for letter in text], np.int32)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        return ''.join(LETTERS[i - _FIRST] for i in map(int, ids) if i >= _FIRST)


class Stripping(Letters):
    """Leaves out a first space, as tokenizers with a dummy prefix do."""

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        return super().decode(ids).removeprefix(' ')


def language_model(
    name: str, tokenizer: Letters | None = None, num_layers: int = 1, context: int = CONTEXT
) -> LanguageModel:
    """A model of an architecture with random parameters; its logits differ widely."""
    tokenizer = tokenizer or Letters()
    model = tiny(
        name, vocab_size=tokenizer.vocabulary.size, max_positions=context, num_layers=num_layers,
        scan_layers=False,
    )  # fmt: skip
    config: Config = load_config('llama_tiny')
    objective = {'decoder': 'clm', 'encoder': 'mlm', 'encoder_decoder': 'span_corruption'}
    config = replace(
        config,
        model=model.config,
        objective=ObjectiveConfig(objective[model.family]),
        train=replace(config.train, seq_len=16),
    )
    config = resolve_options(config)
    return LanguageModel(config, model, perturbed(model, noise=0.5), tokenizer)
