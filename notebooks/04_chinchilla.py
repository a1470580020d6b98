# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Chinchilla: a larger model or more text?
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/04_chinchilla.ipynb)
#
# Compute is about 6 N D: six FLOPs for each of N parameters and D tokens. A budget can be spent on
# a large model that reads little or a small one that reads much, and somewhere between lies the
# best. Hoffmann et al. (2022) found where, in three ways; Besiroglu et al. (2024) read the points
# off their figure and fitted one of them anew. Here you fit laws to runs whose truth you know, then
# ask what they say about a budget that nobody has tried, and at the end make an iso-FLOP curve of
# your own.

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

import numpy as np
from matplotlib import pyplot

import lm
from lm.scaling.plots import isoflop_curves, residuals, surface
from lm.scaling.published import BESIROGLU, LAWS

# %% [markdown]
# ## Runs that obey a known law
#
# The loss of a run is taken to be `L(N, D) = E + A / N^alpha + B / D^beta`: what no model can know,
# plus what this one is too small for, plus what it has read too little for. These are the constants
# of Besiroglu et al., on a grid like that of Hoffmann et al.: nine budgets, and for each models
# from too small to too large. Real runs scatter; so do these, by 0.3 %.

# %%
print(BESIROGLU.constants)
budgets = np.array([6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21])
sizes = 9
best = np.array([BESIROGLU.best(flops).params for flops in budgets])
params = (best[:, None] * 6 ** np.linspace(-1, 1, sizes)).ravel()
budget = np.repeat(budgets, sizes)
tokens = budget / 6 / params
noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(len(params)))
losses = np.array([BESIROGLU.loss(n, d) for n, d in zip(params, tokens, strict=True)]) * noise
runs = lm.scaling.Runs(params, tokens, losses, budget=budget)
print(len(runs), 'runs of', f'{params.min():.2g} to {params.max():.2g} parameters')

# %% [markdown]
# ## Two approaches to the same runs
#
# **Iso-FLOP**: all runs of a budget make a curve with a minimum; a parabola in ln N finds it, and a
# straight line through the minima, in logarithms, is the law `N*(C) ~ C^a`. **Parametric**: the
# five constants are fitted to all runs at once, and the best N follows from them.

# %%
isoflop = lm.scaling.fit_isoflop(runs)
parametric = lm.scaling.fit_parametric(runs)
figure, axes = pyplot.subplots(2, 2, figsize=(13, 9.5), layout='constrained')
isoflop_curves(axes[0, 0], runs, isoflop)
surface(axes[0, 1], runs, parametric)
residuals(axes[1, 0], runs, parametric)
for name, law in (('iso-FLOP', isoflop.params_law), ('parametric', parametric.params_law)):
    axes[1, 1].plot(
        budgets, [law(flops) / BESIROGLU.params_law(flops) for flops in budgets], label=name
    )
axes[1, 1].axhline(1, color='grey', linewidth=0.8)
axes[1, 1].set(ylim=(0.8, 1.2))
axes[1, 1].set(xscale='log', xlabel='compute C, FLOPs', ylabel='best N found over the true one')
axes[1, 1].legend()
pyplot.show()
print(
    f'a: iso-FLOP {isoflop.a:.4f}, parametric {parametric.a:.4f}, '
    f'true {BESIROGLU.params_law.exponent:.4f}'
)
print(f'the parametric fit came to rest: {parametric.converged}')

# %% [markdown]
# The true curve is no parabola, so a parabola's minimum is a little off even without noise, the
# more the wider its window. `isoflop.alternatives` finds the vertices in other ways, and says how
# much depends on that choice:

# %%
for name, other in isoflop.alternatives.items():
    print(f'{name:<14} a = {other.a:.4f}, N* at 5.76e23 FLOPs = {other.params_law(5.76e23):.3g}')

# %% [markdown]
# ## Far beyond the data
#
# 5.76e23 FLOPs trained Gopher, with 280 billion parameters, and then Chinchilla, with 70 billion
# and four times the text. The data end two hundred times below that. Intervals are of a bootstrap:
# the runs are drawn again and again, with some twice and some not at all, and fitted each time.
# They say how sure the fit is of itself, if the law is right; where two approaches disagree by more
# than that, it is not.

# %%
RESAMPLES = 20 if SMALL else 400
FAR = 5.76e23
print(f'{"":<24} {"N*":>8} {"D*":>8} {"D/N":>5}   90 % interval of N*')
for method in ('isoflop', 'parametric'):
    told = lm.scaling.fit_approach(method, runs, resamples=RESAMPLES).predict(FAR)
    low, high = told.intervals['params']
    print(
        f'{method:<24} {told.params:>8.3g} {told.tokens:>8.3g} {told.tokens / told.params:>5.1f}'
        f'   {low:.3g} to {high:.3g}'
    )
truth = BESIROGLU.best(FAR)
for name, n in [('the truth', truth.params)] + [(law.name, law.params_law(FAR)) for law in LAWS]:
    print(f'{name:<24} {n:>8.3g} {FAR / 6 / n:>8.3g} {FAR / 6 / n**2:>5.1f}')

# %% [markdown]
# Kaplan et al. (2020) would have had seven times that size on a seventh of the text: their runs
# were small, and embeddings were counted neither in N nor in C (Pearce and Song 2024); Hoffmann et
# al. blame a learning rate that did not fall to the end of each run. Such a line decides what a lab
# spends a budget on.
#
# ## What a model costs once it is used
#
# A model that will answer many questions should be smaller and read more than is best for training
# alone (Sardana et al. 2023). And when the text runs out it is read again, for less and less gain
# (Muennighoff et al. 2023).

# %%
print('as good as the best of 1e22 FLOPs, when so many tokens are asked of it afterwards')
for asked in (1e9, 1e11, 1e12, 1e13):
    found = lm.scaling.inference_optimum(BESIROGLU, 1e22, asked)
    shape = f'{found.params / 1e9:.1f}e9 parameters on {found.tokens / 1e9:,.0f}e9 tokens'
    print(f'{asked:.0e}: {shape}, saves {found.saved:.1%} over its life')

# %% [markdown]
# ## An iso-FLOP curve of your own
#
# Small models of a few widths, trained in seconds each at one budget after another. Every run
# spends the same compute (`train.flops`), so the wide ones stop early. All parameters are counted;
# at this size most of them are the table of embeddings. Losses are those of held-out text.

# %%
BUDGETS = (2e9,) if SMALL else (1e11, 4e11)
WIDTHS = (8, 16, 32) if SMALL else (8, 16, 24, 32, 48)
SHAPE = {name: value for name, value in BASE.items() if name != 'train.steps'}
rows = []
for flops in BUDGETS:
    for width in WIDTHS:
        config = lm.load_config(
            'llama_tiny',
            **(
                SHAPE
                | {
                    'model.vocab_size': 512,
                    'model.num_layers': 1 if SMALL else 2,
                    'model.d_model': width,
                    'model.num_heads': width // 8,
                    'model.num_kv_heads': width // 8,
                    'model.options.tie_embeddings': True,
                    'train.batch_size': 4 if SMALL else 16,
                    'train.seq_len': 64,
                    'train.flops': flops,
                    'optim.peak_lr': 0.2 / width,
                    'optim.warmup_steps': 10,
                    'eval.every_steps': 100_000,
                    'checkpoint.every_steps': 100_000,
                }
            ),
        )
        with contextlib.redirect_stderr(io.StringIO()):
            found = lm.train(config, RUNS / f'{flops:g}-{width}')
        rows.append((found['params'], found['tokens'], found['eval_loss'], flops))
        print(
            f'{flops:.0e} FLOPs, width {width:>3}: {found["steps"]:>5} steps, '
            f'loss {found["eval_loss"]:.4f}'
        )
own = lm.scaling.Runs(
    *np.array([row[:3] for row in rows], float).T, budget=np.array([row[3] for row in rows])
)

# %%
figure, axes = pyplot.subplots(figsize=(8, 4.5), layout='constrained')
for flops in BUDGETS:
    mine = own.budget == flops
    axes.plot(own.params[mine], own.losses[mine], 'o-', label=f'{flops:.0e} FLOPs')
axes.set(xscale='log', xlabel='parameters N', ylabel='held-out loss, nats a token')
axes.legend()
pyplot.show()
try:
    fit = lm.scaling.fit_isoflop(own)
    print('minima at', ', '.join(f'{one.params:,.0f} parameters' for one in fit.optima))
except lm.UserError as refusal:
    print('no law yet:', refusal)

# %% [markdown]
# The larger budget has its minimum at a larger model. Two budgets are too few for a law, and a run
# of seconds is mostly warm-up: `python -m experiments.chinchilla` does it properly, in half an
# hour, and writes down what it foretells of its largest budget before it runs it.
#
# ## Try
#
# - More noise in the first cell, `0.02`: which approach suffers more?
# - A grid that is off to one side: `6 ** np.linspace(0, 1, sizes)`. What does `fit_isoflop` say?
# - `lm budget --flops=1e21` asks all published laws, without a notebook.
