"""A mixture of real text, without a model."""

from pathlib import Path

import numpy as np
import pytest

from lm.config import DataConfig
from lm.data.mixed_rows import MixedRows
from lm.data.mixture import prepare_mixture
from lm.data.packing import PackedRows
from lm.data.prepare import prepare
from lm.data.turns import Turns
from lm.errors import UserError
from tests.data.corpora import corpus

ROW = 65


def test_a_mixture_of_real_text(tmp_path: Path) -> None:
    names = (str(corpus('general/botchan.txt')), str(corpus('finance/fomc_statements_to2018.txt')))
    data = DataConfig(
        sources=names, tokenizer='bpe', documents='blank_line', cache_dir=str(tmp_path)
    )
    mixture = prepare_mixture(data, 1200)
    for name, part in zip(names, mixture.parts, strict=True):
        content = Path(name).read_bytes()
        read = part.train.read(0, 0, part.train.lengths[0])
        assert mixture.tokenizer.decode(read).encode() in content
    rows = [
        PackedRows(part.train, mixture.tokenizer.vocabulary, ROW, 1, 0, shuffle=True)
        for part in mixture.parts
    ]
    mixed = MixedRows(rows, Turns(mixture.weights, seed=0))
    # Without weights all sources are read through at about the same time: here rows hold a bos
    # and an eos for every document too, which the weights do not count.
    all_rows = sum(of.rows_per_epoch for of in rows)
    epochs = [account['epochs'] for account in mixed.accounting(0, all_rows)]
    assert epochs == pytest.approx([1, 1], abs=0.05)
    counted = np.bincount(mixed.sources_of(np.arange(all_rows)))
    tokens = np.asarray([part.train.tokens for part in mixture.parts])
    assert np.abs(counted - all_rows * tokens / tokens.sum()).max() < 2
    # Opened as if alone, with the tokenizer of the mixture, the text is the very same store.
    tokenizer = next((tmp_path / 'tokenizers').iterdir())
    for name, part in zip(names, mixture.parts, strict=True):
        alone = DataConfig(
            source=name, tokenizer=str(tokenizer), documents='blank_line', cache_dir=str(tmp_path)
        )
        assert prepare(alone, 1200).fingerprint == part.fingerprint
    assert len([*(tmp_path / 'prepared').iterdir()]) == 2
    with pytest.raises(UserError, match=r'^data.sources=.*: a mixture, where one text is read'):
        prepare(data, 1200)
