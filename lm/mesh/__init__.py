"""The devices of a run and how arrays lie on them."""

from lm.mesh.host_memory import keep_freed_memory, serves_cpus
from lm.mesh.mesh import MeshLayout, build

__all__ = ['MeshLayout', 'build']

if serves_cpus():
    # Before XLA has threads: one that has its own arena keeps it.
    keep_freed_memory()
