"""Training as torch and `transformers` do it, written apart from ours, with faults to be seeded."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm.batch import Batch
from tests.hub.peers import model_class, torch

BOTH_WAYS = ('bert', 'roberta', 'modernbert')
ONE_BY_ONE = ('roberta', 'modernbert', 'bloom', 'bart')
HIDDEN = torch.finfo(torch.float32).min
"""Added to the score of a key that a query must not see."""


@dataclass(frozen=True)
class Recipe:
    """An optimizer's settings, and what is wrong with how they are followed.

    Attributes:
      fault: one of `FAULTS`, or empty.
    """

    steps: int
    peak_lr: float
    warmup_steps: int
    final_lr_fraction: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float
    fault: str = ''


FAULTS = (
    'decay on norms and biases',
    'no bias correction',
    'warm-up off by one',
    'clipping after the update',
)


def loaded(folder: Path, family: str) -> Any:
    """The folder's model, fp32; every tensor of the one is in the other."""
    model, told = model_class(family).from_pretrained(
        folder, output_loading_info=True, attn_implementation='eager', dtype=torch.float32
    )
    assert not any(told.values()), told
    return model


def train(model: Any, batches: Iterable[Batch], recipe: Recipe) -> tuple[list[float], int]:
    """Trains `model` on the batches: the loss of each step, and how many steps were clipped."""
    model.train()
    optimizer = build_optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, recipe))
    losses, clipped = [], 0
    for batch in batches:
        optimizer.zero_grad()
        nats = loss(model, batch)
        nats.backward()
        if recipe.fault == 'clipping after the update':
            optimizer.step()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        if recipe.fault != 'clipping after the update':
            optimizer.step()
        schedule.step()
        losses.append(nats.item())
        clipped += int(norm > recipe.clip_norm)
    return losses, clipped


def build_optimizer(model: Any, recipe: Recipe) -> Any:
    """AdamW with decay on the matrices: not on vectors, nor on T5's biases of scores."""
    groups: tuple[list[Any], list[Any]] = ([], [])
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and 'relative_attention_bias' not in name
        groups[matrix or recipe.fault == 'decay on norms and biases'].append(parameter)
    kind = Uncorrected if recipe.fault == 'no bias correction' else torch.optim.AdamW
    rates = (0.0, recipe.weight_decay)
    return kind(
        [
            {'params': held, 'weight_decay': decay}
            for held, decay in zip(groups, rates, strict=True)
            if held
        ],
        lr=recipe.peak_lr,
        betas=recipe.betas,
        eps=recipe.eps,
    )


class Uncorrected(torch.optim.AdamW):
    """AdamW whose moments, which begin at 0, are used as if they did not."""

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            b1, b2 = group['betas']
            for parameter in group['params']:
                state = self.state[parameter]
                mean = state.setdefault('mean', torch.zeros_like(parameter))
                square = state.setdefault('square', torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 1 - b1)
                square.lerp_(parameter.grad**2, 1 - b2)
                parameter.mul_(1 - group['lr'] * group['weight_decay'])
                parameter.sub_(group['lr'] * mean / (square.sqrt() + group['eps']))


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step as a share of the peak: linear warm-up, then half a cosine."""
    begun = step if recipe.fault == 'warm-up off by one' else step + 1
    if step < recipe.warmup_steps:
        return begun / (recipe.warmup_steps + 1)
    gone = (step - recipe.warmup_steps) / (recipe.steps - 1 - recipe.warmup_steps)
    fraction = recipe.final_lr_fraction
    return fraction + (1 - fraction) * (1 + math.cos(math.pi * min(gone, 1.0))) / 2


def loss(model: Any, batch: Batch) -> Any:
    """Nats per target of a batch, from the logits."""
    weights = tensor(batch.loss_weights)
    log_probabilities = torch.log_softmax(logits(model, batch), dim=-1)
    targets = tensor(batch.targets)[..., None]
    return -(log_probabilities.gather(-1, targets)[..., 0] * weights).sum() / weights.sum()


def logits(model: Any, batch: Batch) -> Any:
    """What the model says: of packed rows with masks of four axes, else as one does by default.

    Models that take no such masks or no positions are given a packed row's segments one by one.
    """
    tokens, segments = tensor(batch.tokens), tensor(batch.segment_ids)
    packed = bool((segments > 1).any())
    if packed and model.config.model_type in ONE_BY_ONE:
        return of_segments(model, batch)
    causal = not model.config.is_encoder_decoder and model.config.model_type not in BOTH_WAYS
    mask = same_segment(segments, segments, causal) if packed else (segments > 0).long()
    if model.config.is_encoder_decoder:
        read = tensor(batch.decoder_tokens)
        answers = tensor(batch.decoder_segment_ids)
        # The encoder's own mask and the one across have different queries.
        states = model.get_encoder()(tokens, attention_mask=mask)
        return model(
            encoder_outputs=states,
            attention_mask=same_segment(answers, segments, False) if packed else mask,
            decoder_input_ids=read,
            decoder_attention_mask=(
                same_segment(answers, answers, True) if packed else (answers > 0).long()
            ),
        ).logits
    places = {'position_ids': tensor(batch.positions)} if packed else {}
    return model(tokens, attention_mask=mask, **places).logits


def of_segments(model: Any, batch: Batch) -> Any:
    """Logits of packed rows, [B, T, V], from each segment as a row of its own."""
    one_sided = batch.decoder_tokens is None
    sides = [(batch.tokens, batch.segment_ids)]
    if not one_sided:
        sides.append((batch.decoder_tokens, batch.decoder_segment_ids))
    found = [(b, n) for b, row in enumerate(batch.segment_ids) for n in range(1, row.max() + 1)]
    fields = []
    for tokens, ids in sides:
        rows, mask = (np.zeros((len(found), ids.shape[1]), np.int32) for _ in range(2))
        for row, held, (b, n) in zip(rows, mask, found, strict=True):
            text = tokens[b][ids[b] == n]
            row[: len(text)], held[: len(text)] = text, 1
        fields += [rows, mask, np.arange(ids.shape[1]) * mask]
    alone = logits(model, Batch(*fields))
    _, said = sides[-1]
    whole = torch.zeros(*said.shape, alone.shape[-1])
    for one, (b, n) in zip(alone, found, strict=True):
        (places,) = np.nonzero(said[b] == n)
        whole[b, places] = one[: len(places)]
    return whole


def same_segment(queries: Any, keys: Any, causal: bool) -> Any:
    """What is added to scores, [B, 1, T, S]: 0 within a segment, else `HIDDEN`."""
    seen = queries[:, :, None] == keys[:, None, :]
    if causal:
        seen = seen.tril()
    return torch.where(seen, 0.0, HIDDEN)[:, None]


def tensor(array: Any) -> Any:
    """Ids as int64, weights as float32."""
    array = np.asarray(array)
    return torch.tensor(array if array.dtype == np.float32 else array.astype(np.int64))
