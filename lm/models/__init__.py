"""Architectures over one transformer core, or one of recurrent layers.

`functional` is the way in: it turns a `ModelConfig` into pure functions of a flat dict of
arrays. An architecture is a file of `architectures/` that describes itself as a
`TransformerSpec` or a `RecurrentSpec`; the rest builds what the spec says and knows no architecture
by name.
"""
