"""Labels of rows or of words learnt by torch and transformers, on the batches and weights given.

Shares nothing with ours but these: the other side of `experiments.transfer`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from lm.batch import Batch
from lm.config import OptimConfig
from lm.errors import UserError

HEADS = {
    'sequence': 'AutoModelForSequenceClassification',
    'token': 'AutoModelForTokenClassification',
}
"""By `model.head` the class of transformers that has one like it."""


@dataclass(frozen=True)
class Recipe:
    """How it is trained: AdamW, linear warm-up and a cosine.

    Attributes:
      optim: peak_lr, eps, weight_decay (of matrices), clip_norm, warmup_steps, final_lr_fraction.
      betas: AdamW's.
      steps: of the run.
    """

    optim: OptimConfig
    betas: tuple[float, float]
    steps: int


def fine_tuned(
    folder: Path, head: str, batches: Iterable[Batch], held_out: Iterable[Batch], recipe: Recipe
) -> tuple[list[float], Int[np.ndarray, 'N _']]:
    """The loss of each step, and the likeliest label of each row held out, or of each place.

    Args:
      folder: the model to begin with; its dropout is what its config.json says.
      head: `sequence` or `token`, of `HEADS`.
      batches: one a step.
      held_out: rows that are asked for.
      recipe: how it is trained.

    Raises:
      UserError: torch or transformers is missing.
    """
    torch, transformers = _packages()
    kind = getattr(transformers, HEADS[head])
    model = kind.from_pretrained(folder, attn_implementation='eager', dtype=torch.float32)
    optimizer = _optimizer(torch, model, recipe)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share(step, recipe))
    model.train()
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = _loss(torch, _logits(torch, model, batch), batch)
        loss.backward()
        if recipe.optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        said = [_logits(torch, model, batch).argmax(-1).numpy() for batch in held_out]
    return losses, np.concatenate(said)


def share(step: int, recipe: Recipe) -> float:
    """The learning rate of the step after so many, as a share of the peak."""
    warm, last = recipe.optim.warmup_steps, recipe.steps - 1
    if step < warm:
        return (step + 1) / (warm + 1)
    gone = min((step - warm) / max(last - warm, 1), 1.0)
    end = recipe.optim.final_lr_fraction
    return end + (1 - end) * (1 + math.cos(math.pi * gone)) / 2


def _optimizer(torch: Any, model: Any, recipe: Recipe) -> Any:
    """AdamW whose decay is of matrices only."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return torch.optim.AdamW(
        [
            {'params': matrices, 'weight_decay': recipe.optim.weight_decay},
            {'params': others, 'weight_decay': 0.0},
        ],
        lr=recipe.optim.peak_lr,
        betas=recipe.betas,
        eps=recipe.optim.eps,
    )


def _loss(torch: Any, logits_BTO: Any, batch: Batch) -> Any:
    """Nats per target."""
    weights_BT = torch.tensor(np.asarray(batch.loss_weights))
    targets_BT1 = torch.tensor(np.asarray(batch.targets).astype(np.int64))[..., None]
    nats_BT = -torch.log_softmax(logits_BTO, -1).gather(-1, targets_BT1)[..., 0]
    return (nats_BT * weights_BT).sum() / weights_BT.sum()


def _logits(torch: Any, model: Any, batch: Batch) -> Any:
    """Of each row or place, [B, 1, O] or [B, T, O]."""

    def ids(array: Any) -> Any:
        return torch.tensor(np.asarray(array).astype(np.int64))

    logits = model(
        ids(batch.tokens),
        attention_mask=ids(batch.segment_ids),
        token_type_ids=ids(batch.token_types),
    ).logits
    return logits[:, None] if logits.ndim == 2 else logits


def _packages() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UserError(
            f"--torch: needs the package {error.name}; pip install 'lm-lab[peers]'"
        ) from None
    return torch, transformers
