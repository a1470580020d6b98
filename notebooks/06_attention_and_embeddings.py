# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Attention and embeddings
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/06_attention_and_embeddings.ipynb)
#
# Two places where one can look into a transformer (Vaswani et al. 2017) and see something: which
# tokens each head looks at, and where the tokens lie that the model has learned to know. What you
# see is a model of your own, trained in a few minutes. Look, but do not believe too quickly: a
# weight says where a head looked, not what that did to the answer (Jain and Wallace 2019).

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
import numpy as np
from IPython.display import Image, display
from matplotlib import pyplot

import lm
from lm.inspection.pictures import attention_figure, embeddings_figure, png

config = lm.load_config('quickstart', **BASE)
lm.train(config, RUNS / 'quickstart')
model = lm.load(RUNS / 'quickstart')

# %% [markdown]
# ## Which tokens a head looks at
#
# A panel a layer and head. Rows are the tokens that look, columns those that are looked at; each
# row adds up to 1. The model goes from left to right, so all that is above the diagonal is hidden.
# The weights come out of the model's own forward pass.
#
# Look for heads whose weight lies on the diagonal next to the main one (they look at the token
# before), for a dark first column (heads with nothing to look for rest there; Xiao et al. 2023 call
# it an attention sink), and for heads that spread evenly.

# %%
TEXT = 'Return the value of the key. Return the value of the key.'
[seen] = lm.inspection.attention_maps(model, TEXT)
display(Image(png(attention_figure(seen))))

# %% [markdown]
# ## Three habits, measured
#
# The sentence above is said twice. A head that looks back to what came after the same token the
# last time is called an induction head (Olsson et al. 2022), and lets a model go on with a pattern
# that it has seen once. For each head, the mean weight that goes to the first token, to the token
# before, and to the token after the previous same one; and what a head would give them that looked
# at all alike.

# %%
weights = seen.weights_LHTS
layers, heads, length, _ = weights.shape
ids = model.tokenizer.encode(TEXT)
shift = length - len(ids)  # the text begins after this many special tokens
places = np.arange(2, length)
token_after_same = []
for place in range(2, length):
    same = [earlier for earlier in range(shift, place) if seen.rows[earlier] == seen.rows[place]]
    if same:
        token_after_same.append((place, same[-1] + 1))
rows, columns = np.array(token_after_same).T
habits = {
    'the first token': weights[:, :, places, 0].mean(-1),
    'the token before': weights[:, :, places, places - 1].mean(-1),
    'after the same': weights[:, :, rows, columns].mean(-1),
}
even = {
    'the first token': np.mean(1 / (places + 1)),
    'the token before': np.mean(1 / (places + 1)),
    'after the same': np.mean(1 / (rows + 1)),
}
figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.4), layout='constrained')
for panel, (name, share_LH) in zip(axes, habits.items(), strict=True):
    image = panel.imshow(share_LH, vmin=0, vmax=1, cmap='Blues')
    for layer in range(layers):
        for head in range(heads):
            share = share_LH[layer, head]
            colour = 'white' if share > 0.6 else 'black'
            panel.text(head, layer, f'{share:.2f}', ha='center', va='center', color=colour)
    panel.set_title(f'{name} (evenly: {even[name]:.2f})', size=10)
    panel.set(xlabel='head', ylabel='layer', xticks=range(heads), yticks=range(layers))
pyplot.show()

# %% [markdown]
# ## Does it use the repetition?
#
# If a head of that kind does its work, the second time the sentence is much easier than the first.
# After so short a training hardly any head does; a small difference is there anyway, for the second
# time has more context.

# %%
logits_TV = np.asarray(model.logits(ids[None])[0], np.float64)
logs_TV = logits_TV - np.log(np.exp(logits_TV).sum(-1, keepdims=True))
nats = -logs_TV[np.arange(len(ids) - 1), ids[1:]]
figure, axes = pyplot.subplots(figsize=(9, 3.2), layout='constrained')
axes.bar(range(1, len(ids)), nats)
axes.set_xticks(range(1, len(ids)), model.tokenizer.pieces(ids[1:]), rotation=60)
axes.axvline(len(ids) / 2 - 0.5, color='grey', linestyle=':')
axes.set_ylabel('nats')
pyplot.show()
half = len(ids) // 2
print(f'first time {nats[: half - 1].mean():.2f} nats a token, second {nats[half:].mean():.2f}')

# %% [markdown]
# ## Where tokens lie
#
# The table of embeddings has a vector for each token. PCA (Pearson 1901) turns it so that the two
# directions of most variance lie in the plane, and says how much of the variance that is: points
# that are near may be far apart in what is not shown. t-SNE (van der Maaten and Hinton 2008) keeps
# neighbours together instead, and its distances between groups mean nothing. Coloured are the
# tokens of the text below, pale the commonest words.
#
# Look for articles, verbs and constants that stand together. And far out in the first picture for
# pieces such as `attribu`: byte-pair encoding made them on the way to longer tokens, they hardly
# ever stand alone, and so nothing has taught them a place.

# %%
WORDS = 'string number list tuple file name True False None is are was has the a an'
points = [
    lm.inspection.token_points(model, WORDS, method=method, tokens=100 if SMALL else 400)
    for method in ('pca', 'tsne')
]
display(Image(png(embeddings_figure(points))))

# %% [markdown]
# ## Nearest neighbours
#
# In all dimensions, by the angle between vectors: which tokens does the model take for alike? After
# so little training it is mostly those that stand in the same places of a sentence.

# %%
table_VD = np.asarray(model.params['embedding/tokens'], np.float32)[: config.model.vocab_size]
table_VD = table_VD - table_VD.mean(0)
table_VD /= np.linalg.norm(table_VD, axis=-1, keepdims=True) + 1e-9
pieces = model.tokenizer.pieces(np.arange(len(table_VD)))
for word in ('is', 'string', 'number', 'returns'):
    token, *more = model.tokenizer.encode(f' {word}')
    if more:
        print(f'{word:<10} is more than one token')
        continue
    near = np.argsort(-table_VD @ table_VD[token])[1:8]
    print(f'{pieces[token]:<10}', ', '.join(pieces[i] for i in near))

# %% [markdown]
# ## Try
#
# - Another sentence, with a pair of brackets or quotes: does a head find the one that opens?
# - `'train.steps': 5000`: induction heads come late, and all at once.
# - `lm inspect --workdir=DIR --text=...` makes a page of all of this that opens without a network.
