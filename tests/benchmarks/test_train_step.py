"""The step's figures follow from its time by the rules they name."""

import numpy as np
import pytest

import lm
from benchmarks._lm_steps import random_row
from benchmarks.train_step import measure
from lm.objectives._objective import build_objective
from lm.vocabulary import placeholder


def test_measure() -> None:
    config = lm.load_config(
        'llama_tiny',
        **{
            'model.num_layers': 1, 'model.d_model': 32, 'model.vocab_size': 512,
            'train.batch_size': 2, 'train.seq_len': 16, 'mesh.devices': 1,
        },
    )  # fmt: skip
    found = measure(config, steps=2, repeats=3, documents_per_row=3)
    seconds = found['step_ms'] / 1e3
    assert found['tokens_per_second'] == pytest.approx(2 * 16 / seconds)
    assert found['sequences_per_second'] == pytest.approx(2 / seconds)
    flops_a_token = 6 * found['params'] + 12 * 1 * 32 * 16
    assert found['nanogpt_flops_per_second'] * seconds == pytest.approx(2 * 16 * flops_a_token)
    assert found['mfu_nanogpt'] is None and found['peak_flops'] is None
    assert len(found['step_ms_of_repeats']) == 3
    assert found['peak_of'].startswith('process') and found['peak_bytes'] > 5e7
    # Random tokens: no model is better than chance on fresh ones.
    assert found['loss'] == pytest.approx(np.log(512), rel=0.2)


@pytest.mark.parametrize('documents', [1, 3, 7])
def test_random_row(documents: int) -> None:
    config = lm.load_config('llama_tiny', **{'train.seq_len': 40})
    vocabulary = placeholder(config.model.tokens)
    objective = build_objective(config, vocabulary)
    row = random_row(objective, vocabulary, np.random.default_rng(0), documents)
    ids, sizes = np.unique(row.segment_ids, return_counts=True)
    assert ids.tolist() == list(range(1, documents + 1))
    assert sizes.sum() == 41 and np.ptp(sizes) <= 1
    for segment, size in zip(ids, sizes, strict=True):
        assert row.positions[row.segment_ids == segment].tolist() == list(range(size))
    assert not vocabulary.special_ids & set(row.tokens.tolist())
