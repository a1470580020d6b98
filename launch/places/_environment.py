"""Variables of the environment that a command elsewhere is given."""

import os
import re

from lm.errors import UserError


def variables(words: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` as it stands; `NAME` alone with the value that it has here.

    Raises:
      UserError: no name of a variable, or one that is not set here.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition('=')
        if not re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', name):
            raise UserError(f'--env={word}: must be NAME=VALUE, or NAME of a variable set here')
        if not equals and name not in os.environ:
            raise UserError(f'--env={word}: not set here; give {name}=VALUE')
        found[name] = value if equals else os.environ[name]
    return found
