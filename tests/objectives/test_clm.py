"""Causal language modelling: what is a target, and what is counted."""

import numpy as np

from lm.batch import stack
from lm.objectives import clm
from tests.objectives.rows import VOCABULARY, packed

BOS, EOS = VOCABULARY.bos_id, VOCABULARY.eos_id
OBJECTIVE = clm.build(clm.Options(), VOCABULARY, 9)
NO_DRAWS = np.random.default_rng(0)


def test_inputs_and_targets_are_the_row_shifted_by_one() -> None:
    row = packed([[BOS, 30, 31, EOS], [BOS, 32, 33]], OBJECTIVE.row_len)
    batch = OBJECTIVE.example(row, NO_DRAWS)
    assert batch.tokens.tolist() == [BOS, 30, 31, EOS, BOS, 32, 33, 0, 0]
    assert batch.targets.tolist() == [30, 31, EOS, BOS, 32, 33, 0, 0, 0]
    # Nothing predicts the bos of another document, nor padding.
    assert batch.loss_weights.tolist() == [1, 1, 1, 0, 1, 1, 0, 0, 0]
    assert batch.positions.tolist() == [0, 1, 2, 3, 0, 1, 2, 0, 0]


def test_tokens_used_are_those_that_the_row_before_did_not_have() -> None:
    whole = packed([[BOS, 30, 31, EOS], [BOS, 32, 33, 34, 35, 36]], OBJECTIVE.row_len)
    partly = packed([[BOS, 30, 31, EOS], [BOS, 32, 33]], OBJECTIVE.row_len)
    # The last of the row is the first token of another document.
    opened = packed([[30] * 9, [BOS]], OBJECTIVE.row_len)
    for row, used in ((whole, 9), (partly, 6), (opened, 9)):
        batch = stack([OBJECTIVE.example(row, NO_DRAWS)])
        assert OBJECTIVE.tokens_used(batch) == used
