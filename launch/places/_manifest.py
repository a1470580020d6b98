"""Manifests for Kubernetes as text that says exactly what was meant."""

import re
from typing import Any

import yaml

PLAIN = r'[A-Za-z][A-Za-z0-9_./-]*'
WORDS = {'null', 'true', 'false', 'yes', 'no', 'on', 'off', 'y', 'n'}


def literal(text: str) -> str:
    """`text` so that Kubernetes passes it on as it is: it replaces `$(NAME)`, and `$$` by `$`."""
    return text.replace('$', '$$')


def as_yaml(manifest: dict[str, Any]) -> str:
    """A manifest as YAML; what any reader of YAML might take for no text is in quotes."""
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)


class _Dumper(yaml.SafeDumper):
    """Writes texts that are more than a name in double quotes, and everything in full.

    PyYAML reads YAML 1.1 and so leaves `1e9` bare, which Kubernetes reads as a number.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        plain = re.fullmatch(PLAIN, text) and text.lower() not in WORDS
        return self.represent_scalar('tag:yaml.org,2002:str', text, style=None if plain else '"')


_Dumper.add_representer(str, _Dumper.represent_text)
