"""Attention's kernels: one file each, all the same function of queries, keys, values and a `Sight`.

`kernel.py` says which of them serves where. `masked.py` serves everywhere and is what the others
are tested against.
"""
