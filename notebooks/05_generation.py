# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Generation: from probabilities to text
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/05_generation.ipynb)
#
# A language model says how likely each token is to come next. Which one does come is another
# matter, decided by four settings: how long to go on, how sharp the choice is, and what is ruled
# out before. Here you draw the distribution before and after each of them, and move the sliders.

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
import ipywidgets as widgets
from IPython.display import Image, display

import lm
from lm.inspection.pictures import next_token_figure, png

# %% [markdown]
# ## A model to ask
#
# A minute or three of training, as in the first notebook. (A Hugging Face folder will do as well:
# `lm.load('path/to/gpt2')`.)

# %%
config = lm.load_config('quickstart', **BASE)
lm.train(config, RUNS / 'quickstart')
model = lm.load(RUNS / 'quickstart')

# %% [markdown]
# ## The distribution, before and after each setting
#
# `next_tokens` gives the likeliest tokens after a text, under each setting alone and under all.
#
# - **Temperature** divides the logits: below 1 the likely become likelier, above 1 all come closer,
#   and at 0 only the likeliest is left. The order stays.
# - **Top-k** (Fan et al. 2018) keeps the k likeliest, whether they are alike or not.
# - **Top-p**, or nucleus sampling (Holtzman et al. 2020), keeps the fewest that hold p of the
#   probability: few where the model is sure, many where it is not.
# - All together, in this order: temperature, top-k, top-p.
#
# What was cut has probability 0, and the rest share what it had.

# %%
ROWS = 15


def draw(prompt, temperature, top_k, top_p):
    """A panel for each setting."""
    found = lm.inspection.next_tokens(
        model, prompt, temperature=temperature, top_k=top_k, top_p=top_p, rows=ROWS
    )
    return Image(png(next_token_figure(found)))


display(draw('Return the', 0.6, 8, 0.7))

# %% [markdown]
# Where the model is surer, top-p leaves fewer tokens and top-k as many as before:

# %%
display(draw('for example, if the first argument is', 0.6, 8, 0.7))

# %% [markdown]
# ## Sliders
#
# Each change draws the distribution anew and goes on with the text. (In a viewer that does not run
# cells you see one setting only.)

# %%
WIDE = widgets.Layout(width='32em')


def answer(prompt, max_new_tokens, temperature, top_k, top_p, seed):
    """What `interactive_output` shows."""
    display(draw(prompt, temperature, top_k, top_p))
    [text] = lm.generate(
        model,
        [prompt],
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    print(text)


def slider(kind, words, **settings):
    """One that acts when it is let go."""
    style = {'description_width': '8em'}
    return kind(
        description=words,
        continuous_update=False,
        style=style,
        layout=WIDE,
        **settings,
    )


controls = {
    'prompt': widgets.Text('Return the', description='prompt', continuous_update=False),
    'max_new_tokens': slider(
        widgets.IntSlider, 'max new tokens', value=8 if SMALL else 40, min=1, max=100
    ),
    'temperature': slider(widgets.FloatSlider, 'temperature', value=0.8, min=0, max=2, step=0.05),
    'top_k': slider(widgets.IntSlider, 'top-k', value=40, min=1, max=100),
    'top_p': slider(widgets.FloatSlider, 'top-p', value=0.9, min=0.05, max=1, step=0.05),
    'seed': slider(widgets.IntSlider, 'seed', value=0, min=0, max=20),
}
display(widgets.VBox([*controls.values()]), widgets.interactive_output(answer, controls))

# %% [markdown]
# ## The two ends
#
# Greedy decoding (temperature 0) is the same each time and tends to go round in circles (Holtzman
# et al. 2020). Pure sampling takes from the long tail now and then, and is thrown off its track.
# What lies between is a matter of taste, and of what the text is for.

# %%
SETTINGS = {
    'greedy': {'temperature': 0.0},
    'temperature 0.8, top-p 0.9': {'temperature': 0.8, 'top_p': 0.9},
    'pure sampling': {},
    'temperature 1.8': {'temperature': 1.8},
}
for name, setting in SETTINGS.items():
    [text] = lm.generate(
        model, ['Return the'], max_new_tokens=8 if SMALL else 50, seed=3, **setting
    )
    print(f'{name}\n{text}\n')

# %% [markdown]
# ## The likeliest text is not the likeliest tokens
#
# A beam search keeps several beginnings and gives the one that is likeliest as a whole.

# %%
for text in lm.generate(
    model, ['Return the'], max_new_tokens=4 if SMALL else 20, num_beams=4, num_samples=2
):
    print(text, end='\n\n')

# %% [markdown]
# ## Try
#
# - Temperature at 0: what do top-k and top-p still do?
# - Top-p at 0.05 and temperature at 2: which of them wins?
# - The seed: which settings make it matter least?
# - `lm playground --workdir=DIR` is a page with these sliders, and each token's probability.
