"""The training step of `lm` beside those of others, same shapes, same machine, same session.

Command: python -m benchmarks.peers --case=CASE,... [--contenders=lm,hf_eager,hf_compiled,bare,...]
    [--rounds=3] [--seconds=10] [--out=FILE] [--layers= --rows= --seq_len= ...] [--config.FIELD=...]
Hardware: for `llama_20m`, `bert_20m`, `t5_20m` a CPU; for `gpt2_124m`, `llama_1b`, `bert_base`,
    `t5v11_base` one GPU of 80 GB. No network: models are built from config objects.
Time: on 2 cores about 3 minutes a case; on an H100 about a minute with `--seconds=2 --together`.

Contenders (a file of benchmarks/contenders each, which says how it is built):
    lm            the step of `lm train`; flags `--config.FIELD=VALUE` change its config alone
    hf_eager      `transformers` on torch
    hf_compiled   the same under `torch.compile`
    nanogpt_like  GPT-2 in plain torch as nanoGPT has it, compiled; written anew, for nanoGPT is on
                  no package index
    bare          a LLaMA as one JAX function, without a framework

All: one device, random tokens, batches from the host's memory each step, no dropout, AdamW,
clipping at 1.0, fp32 weights, on GPUs bf16 compute. Tokens of a step are rows x seq_len for all (a
T5's encoder; sequences a second compare it). Each is built as its users have it: `transformers`
computes a BERT's logits at all places, where `lm` computes those of its targets.

Each contender is a process that is warmed up once. On a CPU they take turns, round after round, so
that what else the machine does meets all; a waiting one holds its memory. On a GPU, or with
`--alternate=false`, one is measured to its end before the next begins. `--together` compiles all of
a case at once before anything is timed, which takes the cores of a GPU machine and less time
(kernels that are chosen by timing may then be chosen worse). Figures: median of rounds, and their
spread; ratios: `lm` over the other, of medians, with the spread over rounds. Where other work keeps
a core busy, a CPU's ratios are no ratios of the programs: threads of either wait for each other.
"""

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lm.config import require
from lm.errors import UserError, did_you_mean
from lm.flags import Flags

from ._cases import CASES, Case, find_case, lm_config
from ._command import print_table, run_command
from ._contender_process import Contender, Failed
from ._machine import cores
from .contenders import names, serves

OWN = '--config.'
SHAPES = [f.name for f in fields(Case) if f.name not in ('named', 'family', 'bf16')]


def main() -> int:
    """The command; returns its exit status."""
    own = [word for word in sys.argv[1:] if word.startswith(OWN)]
    others = [word for word in sys.argv[1:] if not word.startswith(OWN)]
    return run_command('peers', __doc__, _define_flags, lambda flags: _run(flags, own), argv=others)


def _define_flags(flags: Flags) -> None:
    flags.define('case', tuple[str, ...], (), f'of {", ".join(CASES)}')
    flags.define('contenders', tuple[str, ...], (), f'of {", ".join(names())}; empty: all that can')
    flags.define('rounds', int, 3, 'turns of each contender')
    flags.define('seconds', float, 10.0, 'of a turn, about; at least 3 steps')
    flags.define('alternate', bool | None, None, 'in turn, all in memory; unset: on a CPU')
    flags.define('together', bool, False, 'all of a case are compiled at once')
    flags.define('out', str, '', 'a file to which the JSON of each case is added when it is done')
    for name in SHAPES:
        flags.define(name, int | None, None, f"instead of the case's own {name}")


def _run(flags: Flags, words: list[str]) -> None:
    flags.required('case')
    require(flags['rounds'] >= 1, f'--rounds={flags["rounds"]}: must be at least 1')
    require(flags['seconds'] > 0, f'--seconds={flags["seconds"]}: must be positive')
    changes = {name: flags[name] for name in SHAPES if flags[name] is not None}
    cases = {name: _changed(find_case(name), changes) for name in flags['case']}
    for name in flags['contenders']:
        hint = did_you_mean(name, names())
        require(name in names(), f'--contenders={name}: no such one{hint}')
    chosen = {name: _contenders(case, flags['contenders']) for name, case in cases.items()}
    for case in cases.values():
        lm_config(case, words)  # refuses mistakes before anything starts
    alternate = flags['alternate']
    if alternate is None:
        alternate = not _has_gpu()
    for name, case in cases.items():
        found = {
            'case': name,
            **{f.name: getattr(case, f.name) for f in fields(Case)},
            'lm_flags': words,
            'alternate': alternate,
            'rounds': flags['rounds'],
            'cores': cores(),
            **_compare(case, chosen[name], words, flags, alternate),
        }
        _print(found)
        print(json.dumps(found), flush=True)
        if flags['out']:
            with Path(flags['out']).open('a') as file:
                file.write(json.dumps(found) + '\n')


def _changed(case: Case, changes: dict[str, int]) -> Case:
    """The case in other sizes; a decoder's length is for cases that have one."""
    if case.decoder_len is None:
        changes = {name: size for name, size in changes.items() if name != 'decoder_len'}
    return replace(case, **changes)


def _contenders(case: Case, asked: tuple[str, ...]) -> list[str]:
    """Those asked for, of all that have the case's family; `lm` first."""
    found = [name for name in asked or names() if serves(name, case)]
    require(bool(found), f'--contenders={",".join(asked)}: none of them has a {case.family}')
    return sorted(found, key=lambda name: name != 'lm')


def _has_gpu() -> bool:
    """Whether there is an NVIDIA GPU; asks the system, for no framework is imported here."""
    return Path('/dev/nvidiactl').exists()


def _compare(
    case: Case, chosen: list[str], words: list[str], flags: Flags, alternate: bool
) -> dict[str, Any]:
    """Figures of all contenders; one that fails is told of, and the others go on."""
    # A waiting process must leave memory to the others.
    environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
    running: dict[str, Contender] = {}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    facts: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}

    def attempt(name: str, work: Callable[[], Any]) -> None:
        if name in failed:
            return
        try:
            work()
        except Failed as error:
            failed[name] = str(error)
            print(error, file=sys.stderr)

    def start(name: str) -> None:
        running[name] = Contender(name, case, words, environment)
        running[name].ask({'compile': True})

    def turn(name: str) -> None:
        seconds[name].append(running[name].turn(flags['seconds']))

    def end(name: str) -> None:
        running[name].ask({'facts': True})
        facts[name] = running[name].answer()

    try:
        if flags['together']:
            for name in chosen:
                attempt(name, lambda name=name: start(name))
            for name in chosen:
                attempt(name, lambda name=name: running[name].answer())
        for group in [chosen] if alternate else [[name] for name in chosen]:
            for name in group:
                if not flags['together']:
                    attempt(name, lambda name=name: start(name))
                    attempt(name, lambda name=name: running[name].answer())
                attempt(name, lambda name=name: running[name].warm())
            for _ in range(flags['rounds']):
                for name in group:
                    attempt(name, lambda name=name: turn(name))
            for name in group:
                attempt(name, lambda name=name: end(name))
                running.pop(name).end()
    finally:
        for contender in running.values():
            contender.end()
    told = {name: _figures(case, seconds[name], facts[name]) for name in chosen if name in facts}
    if not told:
        raise UserError(f'no contender came through: {"; ".join(failed.values())}')
    return {'contenders': told, 'ratios': _ratios(seconds, told), 'failed': failed}


def _figures(case: Case, seconds: list[float], facts: dict[str, Any]) -> dict[str, Any]:
    step = statistics.median(seconds)
    return {
        'tokens_per_second': case.tokens / step,
        'sequences_per_second': case.rows / step,
        'step_ms': 1e3 * step,
        'step_ms_of_rounds': [1e3 * s for s in seconds],
        **facts,
    }


def _ratios(seconds: dict[str, list[float]], told: dict[str, Any]) -> dict[str, list[float]]:
    """The speed of `lm` over each other's: of medians, smallest and largest of a round."""
    if 'lm' not in told:
        return {}
    ours = seconds['lm']
    return {
        name: [
            statistics.median(theirs) / statistics.median(ours),
            min(t / o for t, o in zip(theirs, ours, strict=True)),
            max(t / o for t, o in zip(theirs, ours, strict=True)),
        ]
        for name, theirs in seconds.items()
        if name in told and name != 'lm'
    }


def _print(found: dict[str, Any]) -> None:
    rows = []
    for name, told in found['contenders'].items():
        of_rounds, ratio = told['step_ms_of_rounds'], found['ratios'].get(name)
        spread = f'{told["step_ms"]:.1f} ({min(of_rounds):.1f} to {max(of_rounds):.1f})'
        rows.append(
            (
                name,
                f'{told["tokens_per_second"]:,.0f}',
                f'{told["sequences_per_second"]:,.1f}',
                spread,
                f'{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})' if ratio else '',
                f'{told["peak_bytes"] / 1e9:.1f}',
                f'{told["compile_seconds"]:.0f}',
                f'{told["dtypes"]["compute"]}, {told["attention"]}',
            )
        )
    heads = ('tokens/s', 'sequences/s', 'ms a step', 'lm over it', 'GB', 'compile s', 'computes in')
    print_table((found['case'], *heads), rows)
    for name, told in found['contenders'].items():
        versions = ', '.join(f'{k} {v}' for k, v in told['versions'].items())
        print(f'{name}: {told["device"]}; GB of {told["peak_of"]}; {versions}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
