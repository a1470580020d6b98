"""`lm VERB [--flag=value ...]`: finds the verb, reads its flags, runs it, and tells errors.

Exit status: 0 on success; 2 on a user's error, told in one line on stderr; 130 after Ctrl-C. Any
other exception is a bug of ours and keeps its traceback. Nothing heavy is imported before the
verb is known, so that `lm help` answers at once.
"""

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lm.errors import UserError, did_you_mean

from ._modules import summaries, table

if TYPE_CHECKING:
    from lm.flags import Flags

HELP = ('--help', '-h')
USERS_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""Refusals of the operating system that the user can mend: a full or forbidden disk."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lm` with the words `argv` (the process's own by default); returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = 'lm'
    try:
        if not words or words[0] in HELP or words == ['help']:
            print(overview())
        else:
            # `lm help VERB` is `lm VERB --help`.
            verb, *rest = [*words[1:], '--help'] if words[0] == 'help' else words
            name = f'lm {verb}' if verb in verbs() else 'lm'
            _run(verb, rest)
        sys.stdout.flush()
    except UserError as error:
        return _complain(name, str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone (`lm help | head -1`): nothing is left to be told, not
        # even at exit, where Python would flush stdout once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        refusal = _disk_refusal(error)
        if refusal is None:
            raise
        return _complain(name, refusal)
    return 0


def verbs() -> dict[str, str]:
    """What each verb does, in a line, by name; imports none of them."""
    path = Path(__file__)
    return {name: line for name, line in summaries(path.parent).items() if name != path.stem}


def overview() -> str:
    """What `lm help` prints."""
    rows = {**verbs(), 'help': 'This list; `lm help VERB` lists the flags of a verb.'}
    return '\n'.join(['lm VERB [--flag=value ...]', '', table(rows)])


def read_flags(verb: str, words: Sequence[str]) -> 'tuple[ModuleType, Flags]':
    """The module of a verb, and the flags that `words` give it.

    Raises:
      UserError: a flag that the verb has not, or a value that it refuses.
    """
    module, flags = _defined(verb, words)
    flags.parse()
    return module, flags


def _run(verb: str, argv: list[str]) -> None:
    known = verbs()
    if verb not in known:
        raise UserError(f'{verb!r}: no such verb{did_you_mean(verb, [*known, "help"])}')
    _quieten()
    # What follows `--` is no flag of the verb, not even --help.
    own = argv[: argv.index('--')] if '--' in argv else argv
    if any(word in HELP for word in own):
        asked = [word for word in own if word not in HELP]
        module, flags = _defined(verb, asked + argv[len(own) :])
        print(f'lm {verb} {flags.usage}\n{flags.about or module.__doc__}\n{flags.describe()}')
        return
    module, flags = read_flags(verb, argv)
    module.main(flags)


def _defined(verb: str, words: Sequence[str]) -> 'tuple[ModuleType, Flags]':
    """The module of a verb and its flags, not parsed yet."""
    from absl import flags as absl_flags

    from lm.flags import Flags
    from lm.named_configs import run_file

    # Libraries that read absl's global flags (Grain's workers) insist on their being parsed.
    absl_flags.FLAGS(['lm'])
    module = importlib.import_module(f'.{verb}', __package__)
    flags = Flags(words)
    flags.define(
        'import', str, '', 'a FILE.py of yours, run first: members that it registers exist'
    )
    if file := flags.peek('import'):
        run_file(file, '--import')
    module.define_flags(flags)
    return module, flags


def _quieten() -> None:
    """Keeps what concerns no user off stderr: C++ start-up logs, other packages' deprecations."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    os.environ.setdefault('GRPC_VERBOSITY', 'ERROR')
    if not sys.warnoptions:
        warnings.simplefilter('ignore', DeprecationWarning)
        warnings.simplefilter('ignore', FutureWarning)


def _complain(name: str, message: str) -> int:
    print(f'{name}: {message}', file=sys.stderr)
    return 2


def _disk_refusal(error: BaseException) -> str | None:
    """One line on a full or forbidden disk, wherever in the chain of causes it is."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in USERS_DISK:
            where = f'{cause.filename}: ' if cause.filename else ''
            return f'{where}{cause.strerror}'
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()  # an exception may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
