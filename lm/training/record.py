"""The record of a run: summary.json and loss.png."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jax.experimental import multihost_utils

from lm.data.packing import PackedRows
from lm.data.prepare import Prepared
from lm.planning.counts import count_parameters
from lm.planning.devices import PF_DAY
from lm.planning.flops import FlopCount
from lm.shapes import Params
from lm.training.banner import device_words, state_dtypes
from lm.training.program import Program
from lm.training.workdir import Workdir, read_jsonl


def params_sha256(params: Params) -> str:
    """SHA-256 over the bytes of all parameters, in the order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(params):
        whole = multihost_utils.process_allgather(params[path], tiled=True)
        digest.update(np.ascontiguousarray(whole).tobytes())
    return digest.hexdigest()


def account(
    rows: PackedRows, prepared: Prepared, counts: dict[str, float], stop_row: int
) -> dict[str, Any]:
    """Where every document and token of each source went: `{source: {documents, tokens, ...}}`.

    Tokens count bos and eos where rows have them. `read` is what rows brought, a token as often
    as it came; `trained_on` what of that reached a batch; `dropped` the rest; `repeated` what came
    after the first epoch; `padded` places of batches that held nothing; `targets` predictions.

    Args:
      rows: the training rows.
      prepared: what they were packed from.
      counts: what the batches held, of `Counts.to_json`.
      stop_row: rows read so far.
    """
    packed, before = rows.accounting(0, stop_row), prepared.accounting
    dropped = before['dropped']
    return {
        before['source']: {
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
                'trained_on': counts['used'],
                'targets': counts['targets'],
                'padded': counts['padded'],
                'truncated': packed['truncated'],
                'dropped': packed['tokens'] - counts['used'],
                'repeated': packed['repeated'],
            },
            'epochs': packed['epochs'],
        }
    }


def summarise(
    workdir: Workdir,
    program: Program,
    step: int,
    flops: FlopCount,
    peak: float | None,
    eval_loss: float,
    bits_per_byte: float | None,
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
      eval_loss, bits_per_byte: on the whole held-out text.
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
        'final_loss': metrics[-1]['loss'],
        'eval_loss': eval_loss,
        'bits_per_byte': bits_per_byte,
        'seconds': seconds,
        'compile_seconds': compile_seconds,
        'device': device_words(),
        'dtypes': state_dtypes(program),
        'attention_kernel': program.layout.attention_kernel,
        'params_sha256': params_digest,
        'data': data,
    }


def plot_loss(workdir: Workdir) -> None:
    """Draws training and held-out loss over steps into loss.png."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    train, held_out = read_jsonl(workdir.metrics_file), read_jsonl(workdir.eval_file)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout='constrained')
    axes.plot([r['step'] for r in train], [r['loss'] for r in train], lw=0.9, label='training')
    axes.plot([r['step'] for r in held_out], [r['loss'] for r in held_out], 'o-', label='held out')
    axes.set(xlabel='step', ylabel='loss, nats per target', title=Path(workdir.path).name)
    axes.grid(alpha=0.3)
    axes.legend()
    temporary = workdir.loss_plot.with_suffix('.tmp.png')
    figure.savefig(temporary, dpi=120)
    pyplot.close(figure)
    temporary.replace(workdir.loss_plot)
