"""Looking into a model: what its heads look at, what it would say next, where its tokens lie.

model = lm.load('runs/bert')
maps = lm.inspection.attention_maps(model, 'The teacher taught the student with the book.')
"""

from lm.inspection.attention import AttentionMap, attention_maps
from lm.inspection.embeddings import TokenPoints, token_points
from lm.inspection.next_token import NextToken, next_tokens
from lm.inspection.vectors import TextVectors, text_vectors

__all__ = [
    'AttentionMap', 'NextToken', 'TextVectors', 'TokenPoints', 'attention_maps', 'next_tokens',
    'text_vectors', 'token_points',
]  # fmt: skip
