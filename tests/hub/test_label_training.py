"""Ten steps of fine-tuning for labels of words and for answers, ours and those of transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lm.batch import Batch, Row, stack
from lm.hub.export import write_model
from lm.objectives.question_answering import may_answer
from lm.training.program import Program
from lm.training.step import Metrics
from tests.hub.peers import torch, transformers
from tests.hub.torch_training import tensor
from tests.training.numerics import VOCABULARY, program

STEPS, ROWS, SEQ_LEN = 10, 4, 24
LABELS = ('B-a', 'B-b', 'I-a', 'I-b', 'O')
RATE = 3e-3
AGREE = 1e-3


def ours(objective: str, **changes: Any) -> Program:
    return program(
        'bert',
        1,
        **{
            'model.num_layers': 2,
            'model.vocab_multiple': 1,
            'train.batch_size': ROWS,
            'train.seq_len': SEQ_LEN,
            'objective.name': objective,
            'optim.schedule': 'constant',
            'optim.peak_lr': RATE,
            'optim.weight_decay': 0.0,
            'optim.clip_norm': None,
            'optim.eps': 1e-6,
            'optim.options.b1': 0.9,
            'optim.options.b2': 0.999,
            **changes,
        },
    )


def row_of(fields: list[np.ndarray]) -> Row:
    lengths = [len(field) for field in fields]
    return Row(
        tokens=np.concatenate(fields).astype(np.int32),
        segment_ids=np.repeat(np.arange(len(fields)) + 1, lengths).astype(np.int32),
        positions=np.concatenate([np.arange(n) for n in lengths]).astype(np.int32),
        documents=np.zeros(sum(lengths), np.int32),
    )


def words(rng: np.random.Generator, length: int) -> np.ndarray:
    return rng.integers(120, VOCABULARY.size, length)


def sentence(rng: np.random.Generator) -> Row:
    """Ids, of which every second begins a word, but for one that no id stands for; and tags."""
    ids = words(rng, int(rng.integers(6, SEQ_LEN - 2)))
    firsts = np.arange(0, len(ids), 2)
    firsts[1] = -1
    tags = ' '.join(LABELS[i % 5] for i in ids[firsts])
    return row_of([ids, firsts, np.frombuffer(tags.encode(), np.uint8)])


def question(rng: np.random.Generator) -> Row:
    """A question, a context and where in it the answer lies; of every third there is none."""
    asked, context = words(rng, 4), words(rng, int(rng.integers(6, SEQ_LEN - 7)))
    first = int(rng.integers(len(context)))
    answer = [first, min(first + 2, len(context) - 1)] if context[0] % 3 else []
    nothing = np.empty(0, np.int32)
    return row_of([asked, context, np.array(answer, int), np.array([0, 1]), *[nothing] * 3])


def batches(made: Program, row: Callable[[np.random.Generator], Row]) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [
        stack([made.objective.example(row(rng), rng) for _ in range(ROWS)]) for _ in range(STEPS)
    ]


def read_by(model: Any, batch: Batch) -> Any:
    return model(
        input_ids=tensor(batch.tokens),
        attention_mask=(tensor(batch.segment_ids) > 0).long(),
        token_type_ids=tensor(batch.token_types),
        **(
            {'labels': tensor(np.where(batch.loss_weights > 0, batch.targets, -100))}
            if model.config.architectures == ['BertForTokenClassification']
            else {}
        ),
    )


def label_loss(model: Any, batch: Batch) -> Any:
    """As transformers itself has it."""
    return read_by(model, batch).loss


def span_loss(model: Any, batch: Batch) -> Any:
    """As transformers has it, over the places where an answer may begin or end."""
    out = read_by(model, batch)
    types, segments = np.asarray(batch.token_types), np.asarray(batch.segment_ids)
    may = (types == 1) & (segments > 0)
    may[np.arange(ROWS), (segments > 0).sum(1) - 1] = False  # eos
    may[:, 0] = True
    np.testing.assert_array_equal(may, np.asarray(may_answer(batch)))
    hidden = torch.tensor(np.where(may, 0.0, -np.inf).astype(np.float32))
    targets = tensor(batch.targets)
    losses = [
        torch.nn.functional.cross_entropy(logits + hidden, targets[:, side])
        for side, logits in enumerate((out.start_logits, out.end_logits))
    ]
    return sum(losses) / 2


@pytest.mark.parametrize(
    ('objective', 'changes', 'row', 'peer', 'loss'),
    [
        (
            'token_classification',
            {'objective.options.labels': LABELS, 'model.num_labels': len(LABELS)},
            sentence,
            transformers.BertForTokenClassification,
            label_loss,
        ),
        (
            'question_answering',
            {'objective.options.unanswerable': True},
            question,
            transformers.BertForQuestionAnswering,
            span_loss,
        ),
    ],
)
def test_ten_steps_have_the_losses_of_transformers(
    objective: str,
    changes: dict[str, Any],
    row: Callable[[np.random.Generator], Row],
    peer: Any,
    loss: Callable[[Any, Batch], Any],
    tmp_path: Path,
) -> None:
    made = ours(objective, **changes)
    data = batches(made, row)
    state = made.init_state()
    # At our own initialisation the head is all but silent, and its gradient for the rest too.
    params = {
        path: x + 0.05 * jax.random.normal(jax.random.key(i), x.shape)
        for i, (path, x) in enumerate(sorted(state.params.items()))
    }
    begun = jax.tree.map(jnp.copy, params)
    state, losses = state._replace(params=params), []
    for batch in data:
        state, metrics = made.step(state, made.layout.place(batch))
        losses.append(Metrics.unpacked(metrics).loss)
    write_model(tmp_path, made.config.model, begun, VOCABULARY, shard_bytes=10**9)
    model = peer.from_pretrained(tmp_path, attn_implementation='eager').train()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.999), eps=1e-6)
    theirs = []
    for batch in data:
        optimizer.zero_grad()
        nats = loss(model, batch)
        nats.backward()
        optimizer.step()
        theirs.append(nats.item())
    difference = np.abs(np.subtract(losses, theirs)).max()
    print(f'\n{objective}: {losses[0]:.4f} to {losses[-1]:.4f}, at most {difference:.1e} apart')
    assert difference < AGREE
    assert losses[-1] < losses[0]
