# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Precision: what a number loses
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/03_precision.ipynb)
#
# Half the bits of a number are half the memory and half the time to fetch it, and accelerators
# multiply short numbers several times faster. What is lost on the way, and where does it matter?
# First formats alone, then the step that training stands or falls with, then runs side by side
# (Micikevicius et al. 2018; Kalamkar et al. 2019).

# %%
# Set-up, the same in every notebook. On Colab it installs lm beside the jax that is there (two
# minutes); elsewhere that was done by: pip install -c constraints.txt -e '.[notebook]'
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REPOSITORY = 'https://github.com/OWNER/lm'
if 'google.colab' in sys.modules:
    if not Path('lm-lab').exists():
        subprocess.run(['git', 'clone', '-q', '--depth=1', REPOSITORY, 'lm-lab'], check=True)
        subprocess.run([sys.executable, '-m', 'launch._colab'], cwd='lm-lab', check=True)
    sys.path.insert(0, str(Path('lm-lab').resolve()))

# Where there is a CPU alone, jax makes eight devices of it. It reads this when it starts.
EIGHT = '--xla_force_host_platform_device_count=8'
if EIGHT not in os.environ.get('XLA_FLAGS', ''):
    os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {EIGHT}'.strip()

# What the runs here share: text that every Python has, on one device. LM_NOTEBOOK_SMALL=1 makes
# everything so small that it takes seconds, and learns little.
SMALL = os.environ.get('LM_NOTEBOOK_SMALL') == '1'
BASE = {
    'data.source': 'stdlib',
    'data.tokenizer': 'bpe',
    'model.vocab_size': 2048,
    'mesh.devices': 1,
    'eval.sample_tokens': 0,
}
if SMALL:
    BASE |= {
        'data.source': f'{sysconfig.get_path("stdlib")}/json/*.py',
        'model.vocab_size': 512,
        'model.num_layers': 1,
        'model.d_model': 64,
        'train.batch_size': 8,
        'train.seq_len': 64,
        'train.steps': 40,
        'train.log_every_steps': 4,
        'optim.warmup_steps': 8,
    }
RUNS = Path(tempfile.mkdtemp(prefix='lm-'))

# %%
import contextlib
import io
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot

import lm
from lm.precision.exact import exact_number, short_text
from lm.precision.formats import FORMATS
from lm.precision.rounding import stochastically_rounded
from lm.precision.stored import stored
from lm.report.recorded import read_runs

# %% [markdown]
# ## Pi in ten formats
#
# A float is a sign, an exponent and a fraction. Exponent bits buy range, fraction bits digits: bf16
# has the range of fp32 and three digits, fp16 has more digits and ends at 65504. Integers have
# neither; they count steps of a scale that lies beside them, here one for numbers up to 4.

# %%
pi = exact_number('value', 'pi')
found = [stored(pi, each, absmax=Fraction(4)) for each in FORMATS.values()]
print(f'{"":<9} {"exponent":>8} {"fraction":>8} {"largest":>10}  {"pi becomes":<12} error')
for one in found:
    name, value = one.format.name, short_text(one.value, 8)
    sizes = f'{one.format.exponent_bits:>8} {one.format.fraction_bits:>8}'
    largest = short_text(one.format.max * one.scale, 3)
    print(f'{name:<9} {sizes} {largest:>10}  {value:<12} {short_text(one.relative_error, 2)}')

# %%
# The bits themselves: red the sign, orange the exponent, blue the fraction; dark is a 1.
SHADES = {'0': 0.35, '1': 1.0}
COLOURS = ('tab:red', 'tab:orange', 'tab:blue')
shown = [one for one in found if one.format.bits <= 32]
figure, axes = pyplot.subplots(figsize=(9, 3.6), layout='constrained')
for row, one in enumerate(shown):
    place = 0
    for bits, colour in zip(one.fields, COLOURS, strict=True):
        for bit in bits:
            axes.barh(row, 0.92, left=place, height=0.8, color=colour, alpha=SHADES[bit])
            ink = 'white' if bit == '1' else 'black'
            axes.text(place + 0.46, row, bit, ha='center', va='center', size=8, color=ink)
            place += 1
axes.set_yticks(range(len(shown)), [one.format.name for one in shown])
axes.invert_yaxis()
axes.set(xticks=[], xlim=(-0.2, 32.2))
axes.spines[:].set_visible(False)
axes.set_title('pi in bits', loc='left')
pyplot.show()

# %% [markdown]
# ## Where training breaks: small updates to large weights
#
# A step adds a small number to a weight. If it is less than half the distance to the next number
# that the format has, the sum is the weight as it was, and the step was for nothing. Here 1 is
# raised by 0.0001, five hundred times. Rounded to the nearest, bf16 never moves. With stochastic
# rounding (Gupta et al. 2015) it takes one of the two neighbours by chance, the nearer one more
# often: each step is wrong, and their mean is right.

# %%
STEPS, UPDATE = 500, 1e-4
one = jnp.ones(1024)


def walk(round_step):
    """Means over 1024 weights, after each update."""

    def step(weights, key):
        weights = round_step(weights.astype(jnp.float32) + UPDATE, key)
        return weights, weights.astype(jnp.float32).mean()

    keys = jax.random.split(jax.random.key(0), STEPS)
    return jax.lax.scan(step, round_step(one, keys[0]), keys)[1]


walks = {
    'fp32': walk(lambda x, key: x),
    'bf16, to the nearest': walk(lambda x, key: x.astype(jnp.bfloat16)),
    'bf16, stochastic': walk(stochastically_rounded),
    'fp16, to the nearest': walk(lambda x, key: x.astype(jnp.float16)),
}
figure, axes = pyplot.subplots(figsize=(8, 3.6), layout='constrained')
for name, means in walks.items():
    axes.plot(means, '--' if 'fp16' in name else '-', label=name)
axes.plot([0, STEPS], [1, 1 + STEPS * UPDATE], color='black', linestyle=':', label='exact')
axes.set(xlabel='updates of 0.0001', ylabel='mean of 1024 weights')
axes.legend()
pyplot.show()

# %% [markdown]
# fp16 stays at 1 as well: its next number is 0.00098 away, and 0.0001 is less than half of that.
# (Its dashes lie on the line of bf16.)
#
# ## Runs in pairs
#
# The same model, the same rows in the same order. `bf16_mixed` keeps weights and moments in fp32
# and computes in bf16: the usual way. `bf16_pure` keeps them in bf16 as well, the small updates
# above included. On a CPU bf16 is emulated, so the times here say nothing.

# %%
RUN = {
    'train.steps': 300,
    'train.batch_size': 8,
    'train.seq_len': 64,
    'optim.warmup_steps': 30,
    'model.num_layers': 2,
    'eval.every_steps': 1000,
} | BASE
POLICIES = {
    'fp32': {'precision.policy': 'fp32'},
    'bf16_mixed': {'precision.policy': 'bf16_mixed'},
    'bf16_pure': {'precision.policy': 'bf16_pure'},
}
if not SMALL:
    POLICIES['bf16_pure, stochastic'] = {
        'precision.policy': 'bf16_pure',
        'precision.stochastic_rounding': True,
    }
    POLICIES['fp32, another seed'] = {'precision.policy': 'fp32', 'train.seed': 1}
summaries = {}
for name, policy in POLICIES.items():
    with contextlib.redirect_stderr(io.StringIO()):
        summaries[name] = lm.train(lm.load_config('llama_tiny', **RUN, **policy), RUNS / name)
    print(f'{name:<22} held-out loss {summaries[name]["eval_loss"]:.4f}')

# %% [markdown]
# The curves nearly lie on each other. What tells them apart is the difference to fp32, step by
# step: the rows are the same, so most of the noise drops out. Another seed, which changes the
# beginning and the order of the rows, scatters by more than all of these: compared with other rows,
# or over a single pair of runs, such gaps cannot be seen.

# %%
runs = {run.label: run for run in read_runs([str(RUNS / name) for name in POLICIES])}
reference = runs['fp32'].metrics
figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 6), sharex=True, layout='constrained')
for name, run in runs.items():
    [line] = above.plot(run.metrics.steps, run.metrics['loss'], label=name)
    if name != 'fp32':
        gap = run.metrics['loss'] - reference['loss']
        below.plot(run.metrics.steps, gap, color=line.get_color())
below.axhline(0, color='grey', linewidth=0.8)
above.set_ylabel('loss, nats a token')
below.set(xlabel='step', ylabel='less that of fp32')
above.legend()
pyplot.show()

# %% [markdown]
# ## How many updates are lost
#
# AdamW moves a weight by the learning rate at most, or about that, whatever its gradient (Kingma
# and Ba 2015), and several times less where gradients are mostly noise. These are the weights of
# the fp32 run; for each size of an update, the share of them that it would leave where they are.
# Dotted is the learning rate of these runs at its peak; at the end it is a tenth, and there bf16
# begins to lose updates, fp16 does not. Large models are trained at a tenth of these rates and end
# at a hundredth, where bf16 loses most; so weights stay in fp32, or are rounded by chance. The
# curves have steps because the distance to the next number doubles at each power of two.

# %%
weights = np.concatenate(
    [np.asarray(x, np.float32).ravel() for x in lm.load(RUNS / 'fp32').params.values()]
)
rates = np.geomspace(1e-8, 1e-2, 60)
figure, axes = pyplot.subplots(figsize=(8, 3.6), layout='constrained')
for name, dtype in (('fp32', np.float32), ('fp16', np.float16), ('bf16', jnp.bfloat16)):
    kept = weights.astype(dtype)
    lost = [
        np.mean((kept.astype(np.float32) + np.float32(rate)).astype(dtype) == kept)
        for rate in rates
    ]
    axes.plot(rates, lost, label=name)
peak = lm.load_config('llama_tiny').optim.peak_lr
axes.axvline(peak, color='grey', linestyle=':')
axes.set(xscale='log', xlabel='size of the update', ylabel='share of weights that stay')
axes.legend()
pyplot.show()

# %% [markdown]
# ## Try
#
# - `'precision.policy': 'fp16_mixed'`, with a loss scale that adapts; see `skipped_steps`.
# - `'int8_qat'` and `'fp8'`: products in 8 bits, each array with a scale of its own.
# - `lm formats --value=1e-8 --output=bits.png` draws any number in all formats.
# - `python -m experiments.precision` compares all policies with seeds, controls and intervals.
