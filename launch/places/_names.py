"""Names of things in Google's cloud."""

import re

from lm.fields import require

NAME = r'[a-z]([-a-z0-9]{0,38}[a-z0-9])?'
"""What is made of a name, a pod's of a JobSet's say, is longer and has a limit of 63."""


def require_name(flag: str, name: str) -> None:
    """Refuses what is no name, or would make too long ones.

    Raises:
      UserError: the flag, and what a name is.
    """
    require(
        re.fullmatch(NAME, name) is not None,
        f'--{flag}={name}: must be small letters, digits and hyphens, at most 40, a letter first '
        'and no hyphen last',
    )
