"""A step in plain torch as its users write it: autocast, fused AdamW, clipping, batches pinned."""

import itertools
import time
from typing import Any

import torch

from benchmarks._cases import Case
from benchmarks._lm_steps import HELD
from benchmarks._machine import process_peak, versions

Batch = dict[str, torch.Tensor]


class TorchSteps:
    """Steps of a model whose call gives its loss.

    Attributes:
      model: on its device, fp32 weights.
    """

    def __init__(
        self, case: Case, model: torch.nn.Module, batches: list[Batch], *, compiled: bool,
        told: dict[str, Any], packages: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Places the model.

        Args:
          case: says the dtype of autocast.
          model: called with a batch's tensors by name, returns the loss.
          batches: in the host's memory.
          compiled: by `torch.compile`.
          told: more facts.
          packages: whose versions are told beside torch's.
        """
        self.device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        if self.device.type == 'cuda':
            torch.set_float32_matmul_precision('high')  # TF32 for what autocast leaves in fp32
            batches = [{k: x.pin_memory() for k, x in batch.items()} for batch in batches]
        self._batches = itertools.cycle(batches)
        self.model = model.to(self.device).train()
        decayed = [p for p in model.parameters() if p.dim() >= 2]
        others = [p for p in model.parameters() if p.dim() < 2]
        self._optimizer = torch.optim.AdamW(
            [{'params': decayed, 'weight_decay': 0.1}, {'params': others, 'weight_decay': 0.0}],
            lr=1e-4, betas=(0.9, 0.95), fused=True,
        )  # fmt: skip
        self._forward = torch.compile(model) if compiled else model
        self._compiled, self._bf16 = compiled, case.bf16
        self._told, self._packages = told, packages
        self._seconds = 0.0

    @property
    def facts(self) -> dict[str, Any]:
        cuda = self.device.type == 'cuda'
        peak = {'peak_bytes': torch.cuda.max_memory_allocated(), 'peak_of': 'device (allocated)'}
        return {
            'device': torch.cuda.get_device_name() if cuda else 'cpu',
            'threads': torch.get_num_threads(),
            'dtypes': {'params': 'float32', 'compute': 'bfloat16' if self._bf16 else 'float32'},
            'torch_compile': self._compiled,
            **self._told,
            'compile_seconds': self._seconds,
            **(peak if cuda else process_peak()),
            'versions': versions('torch', *self._packages),
        }

    def compile(self) -> None:
        """The first step, in which torch compiles."""
        begin = time.perf_counter()
        self.take(1)
        self._seconds = time.perf_counter() - begin

    def take(self, steps: int) -> None:
        """Takes so many steps and waits for the last one."""
        for _ in range(steps):
            batch = {
                name: x.to(self.device, non_blocking=True)
                for name, x in next(self._batches).items()
            }
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
                loss = self._forward(**batch)
                loss = loss if isinstance(loss, torch.Tensor) else loss.loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        if self.device.type == 'cuda':
            torch.cuda.synchronize()


def random_tokens(case: Case, length: int) -> list[torch.Tensor]:
    """Batches of ordinary tokens, int64 [rows, length]."""
    torch.manual_seed(0)
    return [torch.randint(108, case.vocabulary, (case.rows, length)) for _ in range(HELD)]
