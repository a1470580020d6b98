"""GPT-2 in plain torch, built and trained as nanoGPT's: a stand-in, for it is on no package index.

After github.com/karpathy/nanoGPT, model.py and train.py, MIT licence, written anew: one linear for
queries, keys and values, fused causal attention, biases, a tied output matrix, the vocabulary
padded to 50,304, `torch.compile`, fused AdamW that decays matrices alone.
"""

import torch
from torch import nn
from torch.nn import functional

from benchmarks._cases import Case

from ._torch_steps import TorchSteps, random_tokens


class Attention(nn.Module):
    """Causal self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        split = (rows, length, self.heads, width // self.heads)
        query, key, value = (y.view(split).transpose(1, 2) for y in self.qkv(x).split(width, 2))
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.output(y.transpose(1, 2).contiguous().view(rows, length, width))


class Block(nn.Module):
    """Attention and a feed-forward, each behind a norm and beside the residual stream."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(case.width), nn.LayerNorm(case.width)
        self.attention = Attention(case.width, case.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(case.width, case.feed_forward),
            nn.GELU(),
            nn.Linear(case.feed_forward, case.width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first_norm(x))
        return x + self.feed_forward(self.second_norm(x))


class GPT(nn.Module):
    """Tokens and targets to the mean cross-entropy."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        padded = -(-case.vocabulary // 64) * 64
        self.tokens = nn.Embedding(padded, case.width)
        self.places = nn.Embedding(case.seq_len, case.width)
        self.blocks = nn.ModuleList(Block(case) for _ in range(case.layers))
        self.norm = nn.LayerNorm(case.width)
        self.head = nn.Linear(case.width, padded, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return functional.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))


def build(case: Case, words: list[str]) -> TorchSteps:
    """Its steps, compiled."""
    del words
    model = GPT(case)
    batches = [
        {'tokens': t[:, :-1].contiguous(), 'targets': t[:, 1:].contiguous()}
        for t in random_tokens(case, case.seq_len + 1)
    ]
    told = {
        'attention': 'scaled_dot_product_attention',
        'params': sum(p.numel() for p in model.parameters()),
    }
    return TorchSteps(case, model, batches, compiled=True, told=told)
