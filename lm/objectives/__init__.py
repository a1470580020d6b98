"""Objectives by file name. A member defines:

FAMILIES: the model families it trains, e.g. `('decoder',)`.
PREFIX_FAMILIES: those of them whose models see a prefix both ways; absent: none.
Options: a frozen dataclass of the objective's own fields, all with defaults.
build(options, vocabulary, seq_len): the `Objective` (see `_objective.py`): how long a raw row
    is, its host half (a `Row` and a NumPy generator -> one row of `Batch`), and its device half
    (logits and `Batch` -> sums and weights). Of several families it takes the model's, `family`,
    as a fourth argument. One that says texts from beginning to end has `text_rows` too
    (`SaysTexts`): `lm evaluate --text` scores by them.
"""
