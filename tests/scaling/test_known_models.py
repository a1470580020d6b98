"""Known models, beside the table of published facts."""

import csv

import pytest

from lm.scaling.known_models import KNOWN_MODELS
from tests.scaling.published import published


def test_against_the_table() -> None:
    lines = [line for line in published('known_models.csv').open() if not line.startswith('#')]
    rows = {row['model'].split()[0]: row for row in csv.DictReader(lines)}
    for model in KNOWN_MODELS:
        row = rows[model.name]
        assert model.params == pytest.approx(float(row['params']), rel=2e-3), model.name
        assert model.tokens == float(row['tokens']), model.name
        assert model.flops == pytest.approx(float(row['flops_6ND']), rel=2e-3), model.name
