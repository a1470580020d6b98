"""Writes a model card: a README.md in Hugging Face's format, from what a run recorded.

WORKDIR is the folder of a run, ended or under way. YAML that the hub reads, then the model, its
text with the account of it, the training, the evaluation, where the parameters come from, how to
use them, and what is not known. It goes to stdout, or to the file that --out names.
"""

from pathlib import Path

from lm.errors import UserError
from lm.flags import Flags

from ._files import require_ending, require_writable


def define_flags(flags: Flags) -> None:
    """Which run, where the card goes, and what no run records."""
    flags.define_words('WORKDIR')
    flags.define('out', str, '', 'FILE.md, which must not be there yet; empty: stdout')
    flags.define('license', str, '', "an identifier of the hub's, such as apache-2.0")
    flags.define('language', str, '', 'codes of the text, such as en or en,de')


def main(flags: Flags) -> None:
    """Writes the card; prints it, or its file's name."""
    out = flags['out']
    if len(flags.words) != 1:
        raise UserError(f'WORKDIR: {len(flags.words)} given; give the folder of one run')
    if out:
        require_ending('out', out, ('.md',))
        require_writable('out', out)
        if Path(out).exists():
            raise UserError(f'--out={out}: is there already; give another, or remove it')
    from lm.report.card import card
    from lm.report.card_metadata import Given
    from lm.report.recorded import read_runs

    [run] = read_runs(flags.words)
    text = card(run, Given(flags['license'], _codes(flags['language'])))
    if not out:
        print(text, end='')
        return
    try:
        Path(out).write_text(text, encoding='utf-8')
    except OSError as error:
        raise UserError(f'--out={out}: cannot be written ({error.strerror})') from error
    print(out)


def _codes(text: str) -> tuple[str, ...]:
    codes = tuple(code.strip() for code in text.split(',')) if text else ()
    for code in codes:
        if not code.isascii() or not code.replace('-', '').isalpha():
            raise UserError(f'--language={text}: {code!r} is no code; give some such as en,de')
    return codes
