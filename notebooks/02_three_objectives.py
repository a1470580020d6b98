# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Three objectives
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/lm/blob/main/notebooks/02_three_objectives.ipynb)
#
# What a model is asked while it trains decides what it can do afterwards. Three answers made three
# families: predict the next token (GPT, Radford et al. 2018), fill in what was masked (BERT, Devlin
# et al. 2019), write out the spans that were cut away (T5, Raffel et al. 2020). Here each is shown
# on the same text, trained at the same compute, and then asked for what it learned.

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

from matplotlib import pyplot

import lm
from lm.data.display import as_text
from lm.data.prepare import prepare
from lm.evaluation.spans import Span, span_nats
from lm.objectives._objective import build_objective
from lm.report.recorded import read_runs

CONFIGS = {'clm': 'llama_tiny', 'mlm': 'bert_tiny', 'span_corruption': 't5_tiny'}
FLOPS = 1e10 if SMALL else 2e12
SHAPE = {'train.batch_size': 8, 'optim.warmup_steps': 40, 'eval.every_steps': 1000} | BASE
SHAPE.pop('train.steps', None)  # the budget says how many
configs = {
    objective: lm.load_config(name, **SHAPE, **{'train.flops': FLOPS})
    for objective, name in CONFIGS.items()
}

# %% [markdown]
# ## What each one is asked
#
# The first row of each run, as its objective makes an exercise of it. A target counts where its
# weight is 1.
#
# **Causal language modelling**: at every place the next token, seen from the left. Every token is a
# target, so nothing of the text is wasted.

# %%
FIRST = {name: lm.rows_of_step(config, 1)[0] for name, config in configs.items()}


def show(objective, lines):
    print('\n'.join(as_text([FIRST[objective]]).splitlines()[:lines]))


show('clm', 16)

# %% [markdown]
# **Masked language modelling**: some 15 % of the places are targets. Of these 80 % are masked, 10 %
# replaced by another token, and 10 % left as they are, so that the model can trust no token. It
# sees both sides, and learns from one place in seven.

# %%
show('mlm', 16)

# %% [markdown]
# **Span corruption**: 15 % of the tokens, in spans of three on average, are cut out of the
# encoder's text, and a sentinel stands for each span. The decoder says the sentinels, each with
# what was behind it.

# %%
show('span_corruption', 40)

# %% [markdown]
# ## Training, at the same compute
#
# `train.flops` is a budget: each run takes as many steps as it pays for, by the rule 6 N D. (Of an
# encoder-decoder each half counts only the tokens that it sees.)

# %%
summaries = {}
for objective, config in configs.items():
    with contextlib.redirect_stderr(io.StringIO()):
        summaries[objective] = lm.train(config, RUNS / objective)
print(f'{"":<16} {"parameters":>10} {"steps":>6} {"tokens":>10} {"FLOPs":>8}')
for name, found in summaries.items():
    print(
        f'{name:<16} {found["params"]:>10,} {found["steps"]:>6} {found["tokens"]:>10,} '
        f'{found["flops"]:>8.2g}'
    )

# %% [markdown]
# Each curve falls, but **do not compare their heights**. The three are asked different things: a
# gap with words on both sides is easier to guess than the next word, a long span harder. And of
# what the decoder of span corruption says a quarter are sentinels, which it soon knows: hence its
# steep beginning. Loss is nats for each *target*, and targets differ.

# %%
runs = read_runs([str(RUNS / objective) for objective in configs])
figure, axes = pyplot.subplots(figsize=(8, 4), layout='constrained')
for run in runs:
    axes.plot(run.along('flops', run.metrics), run.metrics['loss'], label=run.label)
axes.set(xlabel='FLOPs', ylabel='loss, nats a target')
axes.legend()
pyplot.show()

# %% [markdown]
# ## A question that all can answer
#
# How likely is a held-out span, given its surroundings? Each model is asked in the form it was
# trained in. The decoder sees what comes before the span, the other two also what follows. Still
# small models trained for minutes: look at the order rather than the numbers, and remember that the
# encoder learned to fill one token at a time, most of whose neighbours it could see.

# %%
LENGTH, SPAN = (24, 3) if SMALL else (64, 6)
held_out = prepare(configs['clm'].data, configs['clm'].model.vocab_size).validation
texts = [
    held_out.read(document, begin, begin + LENGTH)
    for document, length in enumerate(held_out.lengths.tolist())
    for begin in range(0, length - LENGTH + 1, LENGTH)
]
texts = texts[:: -(-len(texts) // 200)]  # some 200, of the whole
middle, end = (LENGTH - SPAN) // 2, LENGTH - SPAN
print(f'nats a token, of spans of {SPAN} tokens in {len(texts)} held-out texts')
models = {}
for name in configs:
    models[name] = model = lm.load(RUNS / name)
    objective = build_objective(model.config, model.tokenizer.vocabulary)
    nats = []
    for start in (middle, end):
        spans = [Span(text, start, start + SPAN) for text in texts]
        nats.append(span_nats(model, objective, spans, batch_size=16).mean() / SPAN)
    print(f'{name:<16} in the middle {nats[0]:.3f}   at the end {nats[1]:.3f}')

# %% [markdown]
# At so small a budget the number of targets decides: to the decoder every token is one, to the
# others one in seven. Who gains from seeing both sides shows later, and in other questions than
# this.
#
# ## What each one can do
#
# The decoder goes on with a text. The encoder fills a gap of one token, and cannot go on. The
# encoder-decoder fills gaps of any length, and takes an end to go on from as one more gap.

# %%
text = 'Return the <mask> of the list.'
print('clm:            ', lm.generate(models['clm'], ['Return the'], max_new_tokens=8, seed=1)[0])
print('mlm:            ', lm.generate(models['mlm'], [text], fill=True, temperature=0)[0])
print(
    'span_corruption:',
    lm.generate(models['span_corruption'], [text], fill=True, temperature=0, max_new_tokens=8)[0],
)

# %% [markdown]
# ## Try
#
# - `'objective.name': 'prefix_lm'` with `llama_tiny`: a prefix is seen both ways.
# - `'objective.name': 'ul2'` with `llama_tiny` or `t5_tiny`: denoisers mixed (Tay et al. 2023).
# - Ten times the `FLOPS`: does the order at the end change? And in the middle?
# - `python -m experiments.objectives` does this with all pairs, seeds and intervals.
