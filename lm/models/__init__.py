"""Architectures over one transformer core.

`functional` is the way in: it turns a `ModelConfig` into pure functions of a flat dict of
arrays. An architecture is a file of `architectures/` that describes itself as a
`TransformerSpec`; the rest builds what the spec says and knows no architecture by name.
"""
