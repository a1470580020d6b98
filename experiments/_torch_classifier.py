"""A classifier fine-tuned by torch and transformers, on the batches and weights it is given.

Shares nothing with ours but these: the other side of `experiments.transfer`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm.batch import Batch
from lm.config import OptimConfig
from lm.errors import UserError


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
    folder: Path, batches: Iterable[Batch], held_out: Iterable[Batch], recipe: Recipe
) -> tuple[list[float], float]:
    """The loss of each step, and the accuracy on what is held out.

    Args:
      folder: the model to begin with, as `BertForSequenceClassification` reads it; its dropout is
        what its config.json says.
      batches: one a step.
      held_out: rows of weight 0 count nothing.
      recipe: how it is trained.

    Raises:
      UserError: torch or transformers is missing.
    """
    torch, transformers = _packages()
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(folder, attn_implementation='eager', dtype=torch.float32)
    optimizer = _optimizer(torch, model, recipe)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share(step, recipe))
    model.train()
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        logits_BC = _logits(torch, model, batch)
        targets_B = torch.tensor(np.asarray(batch.targets)[:, 0].astype(np.int64))
        loss = torch.nn.functional.cross_entropy(logits_BC, targets_B)
        loss.backward()
        if recipe.optim.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optim.clip_norm)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    return losses, _accuracy(torch, model.eval(), held_out)


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


def _logits(torch: Any, model: Any, batch: Batch) -> Any:
    def ids(array: Any) -> Any:
        return torch.tensor(np.asarray(array).astype(np.int64))

    return model(
        ids(batch.tokens),
        attention_mask=ids(batch.segment_ids),
        token_type_ids=ids(batch.token_types),
    ).logits


def _accuracy(torch: Any, model: Any, held_out: Iterable[Batch]) -> float:
    right = total = 0
    with torch.no_grad():
        for batch in held_out:
            said_B = _logits(torch, model, batch).argmax(-1).numpy()
            counts_B = np.asarray(batch.loss_weights)[:, 0] > 0
            right += int((said_B == np.asarray(batch.targets)[:, 0])[counts_B].sum())
            total += int(counts_B.sum())
    return right / total


def _packages() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise UserError(
            f"--torch: needs the package {error.name}; pip install 'lm-lab[peers]'"
        ) from None
    return torch, transformers
