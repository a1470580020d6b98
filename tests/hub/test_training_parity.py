"""200 steps of ours and of torch with `transformers`, from one initialisation on the same batches.

`pytest tests/hub/test_training_parity.py -s` prints the figures of docs/LOG.md.

Every second batch is of packed rows, made by the data pipeline, the others have one document a row
and padding. The torch side shares nothing with ours but the exported weights and the batches.
"""

import dataclasses
import functools
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.batch import Batch, Row, stack
from lm.data.packing import PackedRows
from lm.data.pipeline import batches
from lm.data.store import Store
from lm.hub.export import write_model
from lm.shapes import Params
from lm.training.program import Program
from lm.training.step import Metrics
from tests.hub.torch_training import FAULTS, Recipe, loaded, train
from tests.training.numerics import VOCABULARY, compiled, program

FAMILIES = ('bert', 'gpt2', 'llama', 't5')
OTHERS = ('roberta', 'modernbert', 'bloom', 'gpt_neox', 'bart', 't5_1_0')
RECIPE = Recipe(
    steps=200, peak_lr=2e-3, warmup_steps=20, final_lr_fraction=0.1, betas=(0.9, 0.95), eps=1e-6,
    weight_decay=0.1, clip_norm=1.1,
)  # fmt: skip
RECIPES = {'t5_1_0': dataclasses.replace(RECIPE, peak_lr=5e-4)}
"""Of those that have another. At RECIPE's rate two trainings of T5 1.0 that are both ours, begun a
rounding apart, part as far as ours and torch's: from where one ReLU is open here and shut there."""
EARLY, EARLY_LOSS, LATE_LOSS = 100, 1e-4, 1e-3
"""Losses differ at most so much in the first steps, and after."""
PATH = 0.01
"""A tensor ends at most so far from the other side's, as a share of the way it went."""
KEY_BIAS = 1e-4
"""The same for biases on keys, not as a share: softmax does not feel them, rounding moves them."""
SEQ_LEN, BATCH_SIZE = 32, 8
DATA_SEED = 5


class Figures(NamedTuple):
    """How far two trainings are apart.

    Attributes:
      early, late: the largest difference of a loss, in the first `EARLY` steps and after.
      paths: by tensor, the distance of its ends over the way it went.
      key_bias: the largest difference of a bias on keys.
    """

    early: float
    late: float
    paths: dict[str, float]
    key_bias: float

    @property
    def worst(self) -> str:
        return max(self.paths, key=lambda name: self.paths[name])

    @property
    def agree(self) -> bool:
        return (
            self.early <= EARLY_LOSS and self.late <= LATE_LOSS and max(self.paths.values()) <= PATH
        )

    def __str__(self) -> str:
        words = f'loss {self.early:.1e} early, {self.late:.1e} late'
        return f'{words}, way {self.paths[self.worst]:.1e} {self.worst}, key {self.key_bias:.1e}'


@functools.cache
def ours(family: str) -> Program:
    options = {}
    name = 't5' if family == 't5_1_0' else family
    recipe = RECIPES.get(family, RECIPE)
    if name in ('t5', 'bart'):  # so that a row of this length takes several documents
        options = {'objective.options.noise_rate': 0.3, 'objective.options.mean_span_length': 2.0}
    if family == 'llama':
        options = {'model.num_kv_heads': 1}
    if family == 'roberta':  # transformers adds a token type always
        options = {'model.options.token_types': 1}
    if family == 'bart':  # torch's embedding learns nothing from the padding id
        options['model.options.decoder_start'] = VOCABULARY.eos_id
    if family == 'bloom':
        options = {'model.d_ff': 128}
    if family == 't5_1_0':
        options |= {'model.options.gated': False, 'model.options.tie_embeddings': True}
    return program(
        name,
        1,
        **{
            'model.num_layers': 2,
            'model.vocab_multiple': 128,
            'train.batch_size': BATCH_SIZE,
            'train.seq_len': SEQ_LEN,
            'train.steps': recipe.steps,
            'optim.schedule': 'cosine',
            'optim.peak_lr': recipe.peak_lr,
            'optim.warmup_steps': recipe.warmup_steps,
            'optim.final_lr_fraction': recipe.final_lr_fraction,
            'optim.options.b1': recipe.betas[0],
            'optim.options.b2': recipe.betas[1],
            'optim.eps': recipe.eps,
            'optim.weight_decay': recipe.weight_decay,
            'optim.clip_norm': recipe.clip_norm,
            **options,
        },
    )


def documents() -> Store:
    """Short documents in which a token mostly decides the next one."""
    rng = np.random.default_rng(0)
    ordinary = np.setdiff1d(np.arange(VOCABULARY.size), [*VOCABULARY.special_ids])
    follows = rng.integers(len(ordinary), size=(len(ordinary), 2))
    lengths = rng.integers(4, SEQ_LEN - 2, 300)
    records = []
    for length in lengths:
        chain = [int(rng.integers(len(ordinary)))]
        while len(chain) < length:
            chain.append(int(follows[chain[-1], int(rng.random() < 0.3)]))
        records.append({'tokens': ordinary[chain]})
    return Store(records, lengths, text_bytes=0, record_tokens=SEQ_LEN)


def padded_row(store: Store, document: int, length: int, boundaries: bool) -> Row:
    """A row of one document and padding."""
    text = store.read(document, 0, int(store.lengths[document]))
    if boundaries:
        text = np.concatenate([[VOCABULARY.bos_id], text, [VOCABULARY.eos_id]])
    place = np.arange(length)
    held = place < len(text)
    tokens = np.full(length, VOCABULARY.pad_id, np.int32)
    tokens[held] = text
    return Row(
        tokens=tokens,
        segment_ids=held.astype(np.int32),
        positions=np.where(held, place, 0).astype(np.int32),
        documents=np.where(held, document, -1).astype(np.int32),
    )


@functools.cache
def data(family: str) -> list[Batch]:
    """A batch a step, of packed and of padded rows in turn."""
    objective, store = ours(family).objective, documents()
    rows = PackedRows(
        store, VOCABULARY, objective.row_len, objective.overlap, DATA_SEED, True,
        objective.boundaries,
    )  # fmt: skip
    packed = batches(
        rows, objective.example, batch_size=BATCH_SIZE, start_row=0, seed=DATA_SEED, threads=0
    )
    rng = np.random.default_rng(DATA_SEED)

    def padded() -> Iterator[Batch]:
        while True:
            chosen = rng.integers(store.documents, size=BATCH_SIZE)
            texts = [
                padded_row(store, int(i), objective.row_len, objective.boundaries) for i in chosen
            ]
            yield stack([objective.example(text, rng) for text in texts])

    pairs = zip(packed, padded(), strict=True)
    return [batch for pair in islice(pairs, RECIPE.steps // 2) for batch in pair]


@functools.cache
def trained(family: str) -> tuple[Params, Params, list[Metrics]]:
    """Parameters of ours at the beginning and at the end, and what each step told."""
    made = ours(family)
    state, told = made.init_state(), []
    begun = jax.tree.map(jnp.copy, state.params)  # the step donates it
    for batch in data(family):
        state, metrics = compiled(made)(state, made.layout.place(batch))
        told.append(Metrics.unpacked(metrics))
    return begun, state.params, told


def exported(family: str, params: Params, folder: Path) -> Path:
    folder.mkdir()
    write_model(folder, ours(family).config.model, params, VOCABULARY, shard_bytes=10**9)
    return folder


def tensors(model: Any) -> dict[str, np.ndarray]:
    """Every parameter once, GPT-2's and BLOOM's query, key and value as the three that they are."""
    found = {}
    for name, parameter in model.named_parameters():
        array = parameter.detach().numpy().copy()
        if '.c_attn.' in name:
            parts = zip(('query', 'key', 'value'), np.split(array, 3, axis=-1), strict=True)
            found.update({name.replace('c_attn', part): one for part, one in parts})
        elif model.config.model_type == 'bloom' and '.query_key_value.' in name:
            heads = array.reshape(model.config.n_head, 3, -1)
            for i, part in enumerate(('query', 'key', 'value')):
                found[name.replace('query_key_value', part)] = heads[:, i]
        else:
            found[name] = array
    return found


def compared(family: str, recipe: Recipe, folder: Path) -> tuple[Figures, int]:
    """Ours beside torch's under `recipe`, and the number of steps that torch clipped."""
    begun, ended, told = trained(family)
    model = loaded(exported(family, begun, folder / 'begun'), family)
    before = tensors(model)
    losses, clipped = train(model, data(family), recipe)
    theirs = tensors(model)
    mine = tensors(loaded(exported(family, ended, folder / 'ended'), family))
    assert mine.keys() == theirs.keys()
    apart = {name for name in theirs if name.endswith(('key.bias', 'k_proj.bias'))}
    differences = np.abs(np.subtract(losses, [step.loss for step in told]))
    norm = np.linalg.norm
    return Figures(
        early=float(differences[:EARLY].max()),
        late=float(differences[EARLY:].max()),
        paths={
            name: float(norm(mine[name] - theirs[name]) / norm(theirs[name] - before[name]))
            for name in theirs.keys() - apart
        },
        key_bias=max((float(np.abs(mine[n] - theirs[n]).max()) for n in apart), default=0.0),
    ), clipped


@pytest.mark.parametrize(
    'family',
    # The others: 4 to 30 s each, as far as they are compiled already.
    [*FAMILIES, *(pytest.param(family, marks=pytest.mark.slow) for family in OTHERS)],
)
def test_training_agrees_step_by_step(family: str, tmp_path: Path) -> None:
    figures, clipped = compared(family, RECIPES.get(family, RECIPE), tmp_path)
    told = trained(family)[2]
    print(f'\n{family:10} {figures}; {clipped} clipped, {told[0].loss:.2f} to {told[-1].loss:.2f}')
    assert figures.agree, figures
    # Some steps are clipped and some not, and there is much to learn.
    assert RECIPE.steps // 10 < clipped < RECIPE.steps
    assert told[-1].loss < 0.8 * told[0].loss


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_seen(fault: str, tmp_path: Path) -> None:
    figures, _ = compared('gpt2', dataclasses.replace(RECIPE, fault=fault), tmp_path)
    print(f'\n{fault:26} {figures}')
    assert not figures.agree
    assert figures.early > EARLY_LOSS and figures.paths[figures.worst] > PATH


def test_batches_are_packed_and_padded() -> None:
    for family in FAMILIES:
        packed, padded = data(family)[:2]
        assert packed.segment_ids.max() > 1
        assert padded.segment_ids.max() == 1
        assert (padded.segment_ids == 0).any()
