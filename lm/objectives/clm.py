"""Causal language modelling: each token from those before it (GPT; Radford et al. 2018, eq. 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lm.batch import Batch, Row
from lm.objectives._objective import Sums, weighted_cross_entropy
from lm.objectives._rows import asked, one_sided, windows
from lm.shapes import LogitsBTV
from lm.vocabulary import Vocabulary

FAMILIES = ('decoder',)


@dataclass(frozen=True)
class Options:
    """Causal language modelling has no choices of its own."""


@dataclass(frozen=True)
class CausalLM:
    """Rows overlap by one token, so every token of every document but its bos is a target once."""

    vocabulary: Vocabulary
    target_len: int
    overlap: int = 1
    boundaries: bool = True
    factorises: bool = True

    @property
    def row_len(self) -> int:
        """One more than the model reads: inputs and targets are the row without its last, first."""
        return self.target_len + 1

    def example(self, row: Row, rng: np.random.Generator) -> Batch:
        """Inputs and targets shifted by one; a target in another segment counts 0."""
        del rng
        inside = (row.segment_ids[1:] == row.segment_ids[:-1]) & (row.segment_ids[1:] > 0)
        return Batch(
            tokens=row.tokens[:-1],
            segment_ids=row.segment_ids[:-1],
            positions=row.positions[:-1],
            targets=row.tokens[1:],
            loss_weights=inside.astype(np.float32),
        )

    def loss(self, logits_BTV: LogitsBTV, batch: Batch) -> Sums:
        """Cross-entropy of the next token."""
        return weighted_cross_entropy(logits_BTV, batch)

    def tokens_used(self, batch: Batch) -> int:
        """All of a row but its first token, which the row before had: targets and bos."""
        return int(np.count_nonzero(np.asarray(batch.targets) != self.vocabulary.pad_id))

    def span_rows(self, text: np.ndarray, start: int, stop: int) -> list[Batch]:
        """The span behind bos and all before it; what follows it is not seen."""
        row = np.append([self.vocabulary.bos_id], text[:stop]).astype(np.int32)
        whole = one_sided([(row[:1], row[1:])], self.target_len, self.vocabulary.pad_id)
        return [asked(whole, start, stop - start)._replace(prefix=None)]

    def text_rows(self, text: np.ndarray) -> Iterator[Batch]:
        """Windows of `target_len` targets, each behind the token before its first, or bos."""
        for pair in windows(text, self.vocabulary.bos_id, self.target_len):
            row = one_sided([pair], self.target_len, self.vocabulary.pad_id)
            yield row._replace(prefix=None)


def build(options: Options, vocabulary: Vocabulary, seq_len: int) -> CausalLM:
    """The objective for rows of `seq_len` inputs."""
    del options
    return CausalLM(vocabulary, target_len=seq_len)
