# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Sharding, on an emulated mesh
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/01_sharding_on_an_emulated_mesh.ipynb)
#
# A model that does not fit into one device is split over several. ZeRO (Rajbhandari et al. 2020)
# splits what data parallelism holds N times over, in three stages: the optimizer's state, then the
# gradients, then the parameters. Here eight devices are made of your CPU. They are slow, but the
# compiler treats them like eight real ones: which device holds what, the bytes, and the messages
# between them are those of a cluster. What you see below is read off the program that would train.

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
# Eight devices wherever this runs: an accelerator of one chip has nothing to share.
os.environ['JAX_PLATFORMS'] = 'cpu'
import contextlib
import io

import jax
from IPython.display import Image, Markdown, display
from matplotlib import pyplot

import lm
from lm.planning.compiled import compile_step
from lm.report.recorded import read_runs
from lm.training.lowering import lower_step

devices = jax.devices()[:8]
print(len(devices), 'devices:', devices[0], 'to', devices[-1])

# %% [markdown]
# ## One model, five ways to lay it out
#
# The model and its batch stay the same; only the section `mesh` of the config changes. `fsdp` is
# the axis that state is split over, `replica` the one along which it is held again.
#
# | strategy | optimizer state | gradients | parameters |
# |---|---|---|---|
# | `ddp` | whole | whole | whole |
# | `zero1` | split | whole | whole |
# | `zero2` | split | split | whole |
# | `zero3` | split | split | split |
# | `hybrid` | zero3 within groups of four, and two such groups | | |

# %%
MESHES = {
    'ddp': {'mesh.strategy': 'ddp'},
    'zero1': {'mesh.strategy': 'zero1'},
    'zero2': {'mesh.strategy': 'zero2'},
    'zero3': {'mesh.strategy': 'zero3'},
    'hybrid': {'mesh.strategy': 'zero3', 'mesh.replica': 2, 'mesh.fsdp': 4},
}
SHAPE = (
    {
        'model.scan_layers': True,
        'model.remat': 'full',
        'train.batch_size': 8,
        'train.seq_len': 64,
        'train.log_every_steps': 2,
        'optim.eps': 1e-6,
    }
    | BASE
    | {'mesh.devices': 8, 'train.steps': 20, 'optim.warmup_steps': 4}
)
configs = {name: lm.load_config('llama_tiny', **(SHAPE | mesh)) for name, mesh in MESHES.items()}

# %% [markdown]
# ## Who holds what
#
# A row is an array; its three boxes are the parameter, its gradient, and the optimizer's state of
# it. A grey box is held whole by all. A box in pieces names the devices that hold each piece. Look
# for the stage at which a column falls to pieces, and at the bars on top: what a device holds,
# beside what it would hold alone. Of the hybrid every piece has two holders, one in each group.

# %%
WIDTH = 900


def draw(name):
    file = RUNS / f'{name}.png'
    lm.describe(configs[name], file)
    display(Image(file, width=WIDTH))


draw('ddp')

# %%
draw('zero1')

# %%
draw('zero2')

# %%
draw('zero3')

# %%
draw('hybrid')

# %% [markdown]
# ## Bytes: what arithmetic says, and what the compiler says
#
# With P parameters of 4 bytes, 4 more each for AdamW's two moments, and n devices, the state at
# rest is 12 P under `ddp`, 4 P + 8 P / n under `zero1` and `zero2`, and 12 P / n under `zero3`.
# (Small vectors stay whole on each device, so a little more than that.) `compile_step` compiles the
# step of `lm.train` and reads its memory: arguments are the state and the batch, temporaries are
# all that comes and goes within a step, gradients among them.

# %%
compiled = {name: compile_step(lower_step(config, devices)) for name, config in configs.items()}
params = lm.plan(configs['ddp'], devices=8).params
parts = {'ddp': 12, 'zero1': 4 + 8 / 8, 'zero2': 4 + 8 / 8, 'zero3': 12 / 8, 'hybrid': 12 / 4}
print(f'{params:,} parameters; bytes for each of them, on a device')
print(f'{"":<8} {"arithmetic":>11} {"arguments":>10} {"temporaries":>12}')
for name, found in compiled.items():
    held, passing = found.arguments / params, found.temp / params
    print(f'{name:<8} {parts[name]:>11.2f} {held:>10.2f} {passing:>12.2f}')

# %%
figure, axes = pyplot.subplots(figsize=(8, 3.6), layout='constrained')
at_rest = [found.arguments / 1e6 for found in compiled.values()]
passing = [found.temp / 1e6 for found in compiled.values()]
axes.bar([*compiled], at_rest, label='state and batch')
axes.bar([*compiled], passing, bottom=at_rest, label='temporaries of a step')
axes.set_ylabel('MB a device')
axes.legend()
pyplot.show()

# %% [markdown]
# ## What it costs: collectives
#
# Devices that hold parts must talk. An all-reduce sums an array over all and gives everyone the
# sum, a reduce-scatter gives everyone a part of it, an all-gather puts parts together. In a ring an
# all-reduce sends each number twice, the others once; so `ddp` moves 2 P numbers a step, and by the
# paper's count (section 7) `zero2` no more, since what it saves by scattering it spends on
# gathering new parameters; `zero3` gathers the weights of layers again for the backward pass, up to
# 3 P (the tables it gathers once). XLA's compiler for CPUs has no reduce-scatter and makes it of an
# all-reduce, so that `zero2` and `zero3` count one P more here; for TPUs it has one. Counts are of
# the program's text, times of a run: what stands in the loop over layers runs once a layer.

# %%
lines = [
    '| strategy | collective | in the program | in a step | numbers moved / P |',
    '|---|---|--:|--:|--:|',
]
for name, found in compiled.items():
    for kind, count in sorted(found.by_kind().items()):
        moved = sum(one.moved for one in found.collectives if one.kind == kind) / params
        lines.append(f'| {name} | {kind} | {count["count"]} | {count["times"]} | {moved:.2f} |')
    moved = sum(one.moved for one in found.collectives) / params
    lines.append(f'| **{name}** | **all** | | | **{moved:.2f}** |')
display(Markdown('\n'.join(lines)))

# %% [markdown]
# ## And the numbers are the same
#
# Where arrays lie must not change what is computed. The same steps under no sharding and under all
# of it: the losses agree to rounding. The project's tests hold all strategies to that, with every
# optimizer, gradients included.

# %%
for name in ('ddp', 'zero3'):
    with contextlib.redirect_stderr(io.StringIO()):
        lm.train(configs[name], RUNS / name)
ddp, zero3 = read_runs([str(RUNS / 'ddp'), str(RUNS / 'zero3')])
print('step   ddp        zero3      difference')
rows = zip(ddp.metrics.steps, ddp.metrics['loss'], zero3.metrics['loss'], strict=True)
for step, one, other in rows:
    print(f'{step:>4}   {one:.6f}   {other:.6f}   {abs(one - other):.1e}')
assert abs(ddp.metrics['loss'] - zero3.metrics['loss']).max() < 1e-3

# %% [markdown]
# ## Try
#
# - `'mesh.tensor': 2`: heads and the feed-forward width are split too, and activations are summed.
# - `'model.scan_layers': False`: the weights of all layers may be gathered at once. What do the
#   temporaries of `zero3` say?
# - `lm.plan(config, devices=64, device_kind='h100')` asks that of a machine you do not have.
