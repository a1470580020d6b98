# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart: a language model from text to samples
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/00_quickstart.ipynb)
#
# A model of a million parameters learns the English of your own Python, its docstrings and help
# pages, in a few minutes and without a network. You will see what it reads, train it, follow its
# loss, and let it write. The later notebooks take each part to pieces.

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
import math

from matplotlib import pyplot

import lm
from lm.data.display import as_text
from lm.report.recorded import read_runs

# %% [markdown]
# ## What will run
#
# A config is a frozen record in sections: model, objective, data, optim, train and so on. A named
# one is a start, and any field can be changed by its dotted path. `lm.describe` says what a run
# would be, without running it: how many parameters, in which number formats, and what each array
# takes of a device's memory. The optimizer's state is the largest part, for AdamW keeps two numbers
# for each parameter (Loshchilov and Hutter 2019).

# %%
config = lm.load_config('quickstart', **BASE)
print(lm.describe(config))

# %% [markdown]
# ## What the model reads
#
# Text becomes tokens by byte-pair encoding (Sennrich et al. 2016), and tokens are packed into rows
# of one length. Below is the beginning of the first row of the first step. Under each token stands
# its target, the token that comes next: that is all a causal language model is asked. Where a new
# document begins the segment changes and positions start again, and no token sees another segment.

# %%
row = lm.rows_of_step(config, 1)[0]
print('\n'.join(as_text([row]).splitlines()[:30]))

# %% [markdown]
# ## Training
#
# The run has a folder of its own. Started again with the same folder it goes on where it stopped,
# or says that it is finished; for a run with other settings give another folder.

# %%
summary = lm.train(config, RUNS / 'quickstart')

# %% [markdown]
# ## How well it learned
#
# The loss is in nats a token: before it has learned anything a model gives each of V tokens about 1
# / V, which costs ln V nats. What counts in the end is the loss on text that was held out. Divided
# by the bytes of that text it becomes bits per byte, which does not depend on how the text was cut
# into tokens. `xz -9e`, which may look at all two megabytes of this text at once, needs about 1.8
# bits a byte; the model has been through less than twice as much as it, in rows of 128 tokens.

# %%
[run] = read_runs([str(RUNS / 'quickstart')])
figure, axes = pyplot.subplots(figsize=(8, 4), layout='constrained')
axes.plot(run.metrics.steps, run.metrics['loss'], label='training')
axes.plot(run.held_out.steps, run.held_out['loss'], 'o-', label='held out')
uniform = math.log(config.model.vocab_size)
axes.axhline(uniform, color='grey', linestyle=':', label='every token equally likely')
axes.set(xlabel='step', ylabel='loss, nats a token')
axes.legend()
pyplot.show()
for name in ('params', 'tokens', 'flops', 'eval_loss', 'bits_per_byte'):
    print(f'{name:<14} {summary[name]:,.5g}')

# %% [markdown]
# ## Writing
#
# `lm.load` takes a run's folder, or one in Hugging Face's format. Low temperatures say what is
# likeliest and repeat themselves; high ones say more and make less sense.

# %%
model = lm.load(RUNS / 'quickstart')
for temperature in (0.0, 0.7, 1.2):
    [text] = lm.generate(
        model,
        ['Return the'],
        max_new_tokens=10 if SMALL else 60,
        temperature=temperature,
        seed=1,
    )
    print(f'temperature {temperature}\n{text}\n')

# %% [markdown]
# ## The model as a function
#
# `logits` gives a score for each token of the vocabulary at each place of a text; their softmax are
# probabilities. These are the likeliest next tokens.

# %%
[after] = lm.inspection.next_tokens(model, 'Return the', rows=8)
for token, share in zip(after.tokens, after.probabilities['raw'], strict=True):
    print(f'{share:6.1%}  {token!r}')
logits_BTV = model.logits(model.tokenizer.encode('Return the')[None])
print(logits_BTV.shape, 'rows, positions, tokens')

# %% [markdown]
# ## Try
#
# - `'data.source'`: a text file of your own, or a folder of them.
# - `'train.steps': 3000`, into another folder: where does the held-out loss stop falling?
# - `'model.num_layers'` and `'model.d_model'`: what does `lm.describe` say, and what does it buy?
