"""Starts a command in several processes or on other machines: here, Slurm, TPUs, GKE.

`lm launch PLACE [--flag=value ...] -- VERB [--flag=value ...]`: what comes after `--` is an `lm`
command as it would be typed here. Its flags are checked before anything is started, so that a typo
is told now and not after a night in a queue; its files are looked for where it runs. `--dry_run`
prints exactly what would be executed. `lm launch PLACE --help` lists a place's flags.
"""

from lm.errors import UserError, did_you_mean
from lm.flags import Flags

from . import places
from ._modules import table

COMMAND = 'VERB [--flag=value ...]'


def define_flags(flags: Flags) -> None:
    """Where to start, with that place's settings, and what."""
    flags.define_words('PLACE')
    flags.define_command(COMMAND)
    flags.define('dry_run', bool, False, 'print exactly what would be executed, and stop')
    if (name := flags.first_word) is None:
        flags.about = f'{__doc__}\n{table(places.names())}\n'
        return
    place = places.load(name)
    flags.about = place.__doc__ or ''
    flags.define_setting(place.Setting)


def main(flags: Flags) -> None:
    """Starts the command, or tells what would be executed; ends with the command's status."""
    if not flags.words:
        raise UserError(f'PLACE: missing; give one of {", ".join(places.names())}')
    name, *more = flags.words
    if more or name != flags.first_word:
        stray = more[0] if name == flags.first_word else name
        raise UserError(f'{stray!r}: not a flag; PLACE comes first, and the command after --')
    place = places.load(name)
    setting, command = flags.setting(place.Setting), _command(flags, name)
    if flags['dry_run']:
        print(place.describe(setting, command))
        return
    if status := place.start(setting, command):
        raise SystemExit(status)


def _command(flags: Flags, place: str) -> tuple[str, ...]:
    """The words after `--`, checked as far as this machine can tell.

    Raises:
      UserError: there are none, the verb is none, or one of its flags is refused.
    """
    # Imported here: it imports this module's package first.
    from .main import read_flags, verbs

    if not flags.command:
        raise UserError(f'--: missing; give the command after it: lm launch {place} -- {COMMAND}')
    verb, *words = flags.command
    known = [name for name in verbs() if name != 'launch']
    if verb not in known:
        raise UserError(f'{verb!r}: no such verb to launch{did_you_mean(verb, known)}')
    try:
        module, read = read_flags(verb, words)
        if hasattr(module, 'check'):
            module.check(read)
    except UserError as error:
        raise UserError(f'{verb}: {error}') from error
    return flags.command
