"""The two flags that name a model, for verbs that use one."""

from typing import TYPE_CHECKING

from lm.errors import UserError
from lm.flags import Flags

if TYPE_CHECKING:
    from lm.generation.language_model import LanguageModel


def define_model(flags: Flags) -> None:
    """`--workdir` and `--hf`."""
    flags.define('workdir', str, '', "the run's folder, or a converted model's")
    flags.define('hf', str, '', 'a Hugging Face folder, instead of --workdir')


def load_model(flags: Flags) -> 'LanguageModel':
    """The model that one of the two flags names.

    Raises:
      UserError: neither or both are given, or it cannot be read.
    """
    if flags['workdir'] and flags['hf']:
        raise UserError(f'--hf={flags["hf"]}: give it or --workdir, not both')
    if not flags['workdir'] and not flags['hf']:
        raise UserError("--workdir: missing; give a run's folder, or --hf")
    from lm.training.load import load_foreign, load_run

    return load_foreign(flags['hf']) if flags['hf'] else load_run(flags['workdir'])
