"""The devices of a run and how arrays lie on them."""

from lm.mesh.mesh import MeshLayout, build

__all__ = ['MeshLayout', 'build']
