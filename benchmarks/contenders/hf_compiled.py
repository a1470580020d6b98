"""`transformers` under `torch.compile`, with its defaults."""

from benchmarks._cases import Case

from ._torch_steps import TorchSteps
from .hf_eager import hugging_face


def build(case: Case, words: list[str]) -> TorchSteps:
    """Its steps, compiled."""
    del words
    return hugging_face(case, compiled=True)
