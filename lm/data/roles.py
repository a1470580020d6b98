"""Which token plays which part, by our spelling of it: what the files of a folder say of theirs."""

from collections.abc import Mapping
from pathlib import Path

from lm.data.settings import Settings
from lm.data.special_ids import BOS, EOS, MASK, PAD, UNK

BESIDE = ('tokenizer_config.json', 'special_tokens_map.json')
"""Files that name the token of every part; the first that does decides."""
CONFIG = 'config.json'
"""The model's file, which gives ids where those name no token; a run has another of this name."""
SPELLED = {
    PAD: ('[PAD]', '<pad>'),
    BOS: ('[CLS]', '<|begin_of_text|>', '<s>'),
    EOS: ('[SEP]', '<|end_of_text|>', '<|endoftext|>', '</s>'),
    UNK: ('[UNK]', '<unk>'),
    MASK: ('[MASK]', '<mask>'),
}
"""What the token of a part is usually called, for tokenizers of which no file says it."""
KEYS = {
    PAD: ('pad_token',),
    BOS: ('bos_token', 'cls_token'),
    EOS: ('eos_token', 'sep_token'),
    UNK: ('unk_token',),
    MASK: ('mask_token',),
}
"""Keys that name a part's token; config.json's end in `_id`."""


def files_of(folder: Path) -> dict[str, bytes]:
    """Those of the files above that are in a folder, by name.

    Raises:
      OSError: one of them cannot be read.
    """
    names = (*BESIDE, CONFIG)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def named(files: Mapping[str, bytes], before: str) -> dict[str, str]:
    """The tokens that the files in `BESIDE` name.

    Args:
      files: by name.
      before: what an error says before a file's name.

    Raises:
      UserError: one of them is no JSON object, or holds something else than a token.
    """
    said: dict[str, str] = {}
    for settings in [Settings(files[name], before + name) for name in BESIDE if name in files]:
        for part, keys in KEYS.items():
            tokens = [token for token in map(settings.token, keys) if token]
            if tokens:
                said.setdefault(part, tokens[0])
    return said


def numbered(files: Mapping[str, bytes], before: str) -> dict[str, int]:
    """The ids that `CONFIG` gives, of a model as Hugging Face writes it; otherwise as `named`."""
    if CONFIG not in files:
        return {}
    settings = Settings(files[CONFIG], before + CONFIG)
    if 'model' in settings.tree:  # a run's
        return {}
    said = {}
    for part, keys in KEYS.items():
        ids = [i for i in (settings.first_id(f'{key}_id') for key in keys) if i is not None]
        if ids:
            said[part] = ids[0]
    return said
