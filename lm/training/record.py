"""The record of a run: summary.json and loss.png."""

import hashlib
from typing import Any, Literal

import jax
import numpy as np

from lm.data.mixed_rows import MixedRows
from lm.data.mixture import Mixture
from lm.planning.counts import count_parameters
from lm.planning.devices import PF_DAY
from lm.planning.flops import FlopCount
from lm.processes import whole
from lm.shapes import Params
from lm.training.banner import device_words, state_dtypes
from lm.training.evaluate import MixtureScore
from lm.training.program import Program
from lm.training.workdir import Workdir, read_jsonl


def params_sha256(params: Params) -> str:
    """SHA-256 over the bytes of all parameters, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(params):
        digest.update(np.ascontiguousarray(whole(params[path])).tobytes())
    return digest.hexdigest()


def peak_device_bytes() -> int | None:
    """The most that a device of this process has held; None where devices do not tell (CPUs)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if not all('peak_bytes_in_use' in known for known in stats):
        return None
    return max(known['peak_bytes_in_use'] for known in stats)


def account(
    rows: MixedRows, mixture: Mixture, counts: dict[str, Any], stop_row: int
) -> dict[str, Any]:
    """Where every document and token of each source went: `{source: {documents, tokens, ...}}`.

    Tokens count bos and eos where rows have them. `read` is what rows brought, a token as often
    as it came; `trained_on` what of that reached a batch; `truncated` what did not fit in a row;
    `dropped` the rest; `repeated` what came after the first epoch; `padded` places of batches that
    held nothing; `targets` predictions. In a mixture also a source's `rows`, and the `share` of all
    rows that its weight gives it.

    Args:
      rows: the training rows.
      mixture: what they were packed from.
      counts: what the batches held, of `Counts.to_json`.
      stop_row: rows read so far.
    """
    accounts: dict[str, Any] = {}
    for k, packed in enumerate(rows.accounting(counts['first_row'], stop_row)):
        used, targets, padded = (counts[name][k] for name in ('used', 'targets', 'padded'))
        before = mixture.parts[k].accounting
        dropped = before['dropped']
        accounts[mixture.names[k]] = {
            **before,
            'documents': {
                'read': before['read']['documents'],
                'trained_on': packed['documents'],
                'held_out': before['validation']['documents'],
                'split': packed['split_documents'],
                'dropped': sum(dropped.values()),
                'dropped_why': dropped,
            },
            'tokens': {
                'read': packed['tokens'],
                'trained_on': used,
                'targets': targets,
                'padded': padded,
                'truncated': packed['truncated'],
                'dropped': packed['tokens'] - packed['truncated'] - used,
                'repeated': packed['repeated'],
            },
            'epochs': packed['epochs'],
        }
        if len(mixture.names) > 1:
            mixed = {'share': mixture.shares[k], 'rows': packed['rows']}
            accounts[mixture.names[k]] |= mixed
    return accounts


def total(accounts: dict[str, Any]) -> dict[str, Any]:
    """The sums over all sources of `account`: `documents` and `tokens`."""
    return {
        kind: {
            key: sum(account[kind][key] for account in accounts.values())
            for key, value in next(iter(accounts.values()))[kind].items()
            if isinstance(value, int)
        }
        for kind in ('documents', 'tokens')
    }


def summarise(
    workdir: Workdir,
    program: Program,
    step: int,
    flops: FlopCount,
    peak: float | None,
    score: MixtureScore,
    compile_seconds: float,
    params_digest: str,
    data: dict[str, Any],
    stopped_by: Literal['steps', 'hours'],
) -> dict[str, Any]:
    """The contents of summary.json.

    Args:
      workdir: of the run; its metrics are read.
      program, step: of the run, at its end.
      flops: of one row.
      peak: FLOP/s of all devices, None where unknown.
      score: of the whole held-out text.
      compile_seconds: of the step, in this process.
      params_digest: from `params_sha256`.
      data: from `account`.
      stopped_by: all steps were taken, or the time was over before.
    """
    config, metrics = program.config, read_jsonl(workdir.metrics_file)
    count = count_parameters(program.functional)
    total_flops = float(flops.row) * config.train.batch_size * step
    seconds = metrics[-1]['seconds']
    return {
        'steps': step,
        'steps_planned': config.train.steps,
        'stopped_by': stopped_by,
        'params': count.total,
        'params_non_embedding': count.non_embedding,
        'params_padding': count.padding,
        'tokens': metrics[-1]['tokens'],
        'flops': total_flops,
        'pf_days': total_flops / PF_DAY,
        'mfu': total_flops / seconds / peak if peak else None,
        'flops_rule': flops.rule,
        'final_loss': next((r['loss'] for r in reversed(metrics) if r['loss'] is not None), None),
        'eval_loss': score.loss,
        'bits_per_byte': score.bits_per_byte,
        **({'measures': score.measures} if score.measures else {}),
        'seconds': seconds,
        'compile_seconds': compile_seconds,
        'device': device_words(),
        'peak_device_bytes': peak_device_bytes(),
        'dtypes': state_dtypes(program),
        # Of a run whose loss was scaled: the last scale, and the steps that overflowed.
        **{
            name: metrics[-1][name]
            for name in ('loss_scale', 'skipped_steps')
            if name in metrics[-1]
        },
        'attention_kernel': program.attention_words,
        'params_sha256': params_digest,
        'data': data,
        # Of one source these would say the same again.
        **({'data_total': total(data)} if len(data) > 1 else {}),
        **({'eval_by_source': score.by_source} if len(score.names) > 1 else {}),
    }


def plot_loss(workdir: Workdir) -> None:
    """Draws training and held-out loss over steps into loss.png."""
    # Not by pyplot: its backend belongs to the notebook that the run may be in.
    from matplotlib.figure import Figure

    train, held_out = read_jsonl(workdir.metrics_file), read_jsonl(workdir.eval_file)
    figure = Figure((7, 4.5), layout='constrained')
    axes = figure.add_subplot()
    told = [r for r in train if r['loss'] is not None]
    axes.plot([r['step'] for r in told], [r['loss'] for r in told], lw=0.9, label='training')
    axes.plot([r['step'] for r in held_out], [r['loss'] for r in held_out], 'o-', label='held out')
    axes.set(xlabel='step', ylabel='loss, nats per target', title=workdir.label)
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = workdir.loss_plot.with_suffix('.tmp.png')
    figure.savefig(temporary, dpi=120)
    temporary.replace(workdir.loss_plot)
