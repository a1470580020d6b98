"""Looking into a model: what its heads look at, what it would say next, where its tokens lie.

model = lm.load('runs/bert')
maps = lm.inspection.attention_maps(model, 'The teacher taught the student with the book.')
"""

from lm.inspection.attention import AttentionMap, attention_maps

__all__ = ['AttentionMap', 'attention_maps']
