"""A Hugging Face `config.json`: every key is understood, known to change nothing, or refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm.errors import UserError

NAME = 'config.json'
HARMLESS = frozenset((
    'architectures', 'model_type', 'transformers_version', 'dtype', 'torch_dtype',
    'use_cache', 'tokenizer_class', 'bos_token_id', 'eos_token_id', 'pad_token_id',
    'cls_token_id', 'sep_token_id', 'mask_token_id', 'unk_token_id', 'initializer_range',
    'initializer_factor', 'gradient_checkpointing', 'torchscript', 'use_bfloat16',
    'output_attentions', 'output_hidden_states', 'output_past', 'output_scores',
    'return_dict', 'return_dict_in_generate', 'task_specific_params', 'finetuning_task',
    'problem_type', 'id2label', 'label2id', 'num_labels', 'classifier_dropout',
    'pretraining_tp', 'chunk_size_feed_forward', 'prefix', 'decoder_start_token_id',
    'bad_words_ids', 'begin_suppress_tokens', 'do_sample', 'diversity_penalty',
    'early_stopping', 'encoder_no_repeat_ngram_size', 'exponential_decay_length_penalty',
    'forced_bos_token_id', 'forced_eos_token_id', 'length_penalty', 'max_length',
    'min_length', 'no_repeat_ngram_size', 'num_beam_groups', 'num_beams',
    'num_return_sequences', 'remove_invalid_values', 'repetition_penalty', 'suppress_tokens',
    'temperature', 'tf_legacy_loss', 'top_k', 'top_p', 'typical_p', 'is_llama_config',
    'max_sequence_length',
))  # fmt: skip
"""Keys that decide nothing of what a loaded model computes: generation, initialisation, labels."""
MUST_BE = {
    'is_decoder': (False,),
    'use_mrope': (False,),
    'rope_interleaved': (False,),
    'add_cross_attention': (False,),
    'tie_encoder_decoder': (False,),
    'pruned_heads': ({},),
}
"""Keys of any architecture that must have one of these values."""


class ForeignConfig:
    """The keys of a `config.json`; `close` refuses those that nobody asked for.

    Attributes:
      path: of the file.
    """

    def __init__(self, path: Path, tree: Mapping[str, Any], section: str = ''):
        """
        Args:
          path: of the file, for errors.
          tree: what it holds, or what one of its keys does.
          section: that key and a dot.
        """
        self.path = path
        self._tree = dict(tree)
        self._section = section
        self._asked: set[str] = set()

    @classmethod
    def read(cls, folder: Path) -> 'ForeignConfig':
        """The `config.json` of a folder.

        Raises:
          UserError: there is no such file, or it holds no JSON object.
        """
        path = folder / NAME
        try:
            tree = json.loads(path.read_text(encoding='utf-8'))
        except OSError as error:
            raise UserError(f'{path}: cannot be read ({error.strerror})') from error
        except (ValueError, RecursionError) as error:
            raise UserError(f'{path}: is not JSON ({error})') from error
        if not isinstance(tree, dict):
            raise UserError(f'{path}: is not a JSON object')
        return cls(path, tree)

    def section(self, key: str) -> 'ForeignConfig':
        """The keys below `key`, to be closed by itself; none where it is missing or null."""
        return ForeignConfig(self.path, self.take(key, dict, {}), f'{self._section}{key}.')

    @property
    def model_type(self) -> str:
        """The key that names the architecture."""
        return self.take('model_type', str)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        """The value of `key`, of type `kind`; `default` where it is missing or null.

        Raises:
          UserError: it is of another type, or missing and there is no default.
        """
        self._asked.add(key)
        value = self._tree.get(key)
        if value is None:
            if default is None:
                raise UserError(f'{self.path}: {self._section}{key} is missing')
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if float in kinds and isinstance(value, int) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                return math.inf
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            words = ' or '.join(k.__name__ for k in kinds)
            raise UserError(f'{self.path}: {self._section}{key}={value!r} is not of type {words}')
        return value

    def size(self, key: str, default: int | None = None) -> int:
        """The value of `key`, a size: an int from 1 to 2^31 - 1."""
        value: int = self.take(key, int, default)
        if not 0 < value < 2**31:
            raise self.refusal(key, value, 'only a size from 1 to 2^31 - 1')
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The value of `key`, a positive finite number."""
        value: float = self.take(key, float, default)
        if not (value > 0 and math.isfinite(value)):
            raise self.refusal(key, value, 'only a positive finite number')
        return value

    def fraction(self, key: str, default: float) -> float:
        """The value of `key`, a number from 0 to below 1."""
        value: float = self.take(key, float, default)
        if not 0 <= value < 1:
            raise self.refusal(key, value, 'only a number from 0 to below 1')
        return value

    def mentions(self, key: str) -> bool:
        """Whether `key` is there, null or not: for some, null says something else than nothing."""
        self._asked.add(key)
        return key in self._tree

    def has(self, key: str) -> bool:
        """Whether `key` is there and not null."""
        self._asked.add(key)
        return self._tree.get(key) is not None

    def only(self, key: str, *allowed: Any) -> None:
        """Refuses a value of `key` that is none of `allowed`; missing is the first of them.

        Raises:
          UserError: it is another.
        """
        self._asked.add(key)
        value = self._tree.get(key)
        if value is not None and value not in allowed:
            raise self.refusal(key, value, f'only {" or ".join(map(repr, allowed))}')

    def refusal(self, key: str, value: Any, instead: str) -> UserError:
        """What says that an option is not supported, and what is."""
        words = f'{self._section}{key}={value!r}'
        return UserError(f'{self.path}: {words} is not supported, {instead}')

    def ignore(self, *keys: str) -> None:
        """Says of keys that they change nothing."""
        self._asked.update(keys)

    def close(self) -> None:
        """Refuses what is left.

        Raises:
          UserError: a key that no one knows, or one of `MUST_BE` with another value.
        """
        for key, allowed in MUST_BE.items():
            self.only(key, *allowed)
        for key, value in self._tree.items():
            known = key in self._asked or key in HARMLESS or key.startswith('_')
            if not known and value is not None:
                raise UserError(
                    f'{self.path}: {self._section}{key}={value!r} is an option that this converter '
                    'does not know; take it out if it changes nothing of what the model computes'
                )


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds a `config.json` that names its architecture as Hugging Face does."""
    try:
        tree = json.loads((folder / NAME).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(tree, Mapping) and 'model' not in tree


def label_names(folder: Path, count: int) -> tuple[str, ...]:
    """What a folder's config.json calls its labels, in the order of their logits.

    Raises:
      UserError: it names others than so many.
    """
    foreign = ForeignConfig.read(folder)
    named = foreign.take('id2label', dict, {})
    if not named:  # transformers leaves its usual names out
        return tuple(f'LABEL_{i}' for i in range(count))
    try:
        names = {int(number): str(name) for number, name in named.items()}
    except ValueError:
        names = {}
    if sorted(names) != list(range(count)) or len({*names.values()}) != count:
        raise UserError(f'{foreign.path}: id2label={named!r} does not name {count} labels')
    return tuple(names[i] for i in range(count))
