"""Chinchilla's counts: the tables of its own paper."""

import csv

import pytest

from lm.planning.appendix_f import ChinchillaShape
from lm.planning.kaplan import KaplanShape
from tests.scaling.published import published


def rows(name: str) -> list[dict[str, str]]:
    lines = [line for line in published(name).open() if not line.startswith('#')]
    return list(csv.DictReader(lines))


def shape(row: dict[str, str]) -> ChinchillaShape:
    names = ('n_layers', 'd_model', 'ffw_size', 'kv_size', 'n_heads')
    return ChinchillaShape(*(int(row[name]) for name in names))


def test_parameters_of_table_a9() -> None:
    for row in rows('chinchilla_tableA9_even.csv'):
        printed = float(row['params_million']) * 1e6
        assert shape(row).params() == pytest.approx(printed, rel=0.007), row


def test_flops_of_table_a4() -> None:
    for row in rows('chinchilla_tableA4_a.csv'):
        model = shape(row)
        by_6nd = 6 * model.params() * 2048
        assert round(model.train_flops(2048) / by_6nd, 2) == float(row['ratio_ours_over_6ND'])
        # With the embedding and the logits they do not come out.
        assert round(model.train_flops(2048, logits=True) / by_6nd, 2) > 1.1


@pytest.mark.parametrize(
    ('sizes', 'ratio'),
    [
        # The whole of table A4, typed from the paper.
        ((10, 640, 2560, 64, 10), 1.03),
        ((20, 1024, 4096, 64, 16), 1.10),
        ((24, 1280, 5120, 128, 10), 1.08),
        ((26, 1792, 7168, 128, 14), 1.04),
        ((28, 2048, 8192, 128, 16), 1.03),
        ((40, 3584, 14336, 128, 28), 0.99),
    ],
)
def test_the_printed_ratios(sizes: tuple[int, int, int, int, int], ratio: float) -> None:
    model = ChinchillaShape(*sizes)
    assert round(model.train_flops(2048) / (6 * model.params() * 2048), 2) == ratio


def test_the_width_of_attention_need_not_be_the_models() -> None:
    # Table A9's 11,452 M: 32 heads of 128 are 4096, the model is 4352 wide.
    model = ChinchillaShape(47, 4352, 17_408, 128, 32)
    assert model.params() == pytest.approx(11_452e6, rel=0.007)
    square = ChinchillaShape(47, 4352, 17_408, 128, 34)
    assert square.params() > 1.02 * model.params()


def test_kaplan_of_gpt3() -> None:
    # Brown et al. 2020, table 2.1: 96 layers of 12,288; N of about 12 n_layer d_model^2.
    model = KaplanShape(96, 12_288, 4 * 12_288, 12_288)
    assert model.params() == 12 * 96 * 12_288**2
    # Kaplan et al. 2020, table 1, by operation: QKV, mask, project, feed-forward.
    L, D, T = 96, 12_288, 2048
    forward = 2 * L * D * 3 * D + 2 * L * T * D + 2 * L * D * D + 2 * L * 2 * D * 4 * D
    assert model.train_flops_per_token(T) == 3 * forward
