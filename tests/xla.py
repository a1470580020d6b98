"""How XLA compiles in tests, and how for users."""

from importlib.metadata import version

# From jaxlib 0.11 on there is no such flag, and XLA ends a process for one that it does not know.
_HAS_EMITTERS_FLAG = tuple(map(int, version('jaxlib').split('.')[:2])) < (0, 11)

FLAGS = {
    '--xla_force_host_platform_device_count': '8',
    # Programs of tests run for milliseconds: a quarter of the time to compile. Flags that XLA_FLAGS
    # sets already are left as they are.
    '--xla_backend_optimization_level': '0',
} | ({'--xla_cpu_use_fusion_emitters': 'false'} if _HAS_EMITTERS_FLAG else {})
AS_FOR_USERS = {'xla_backend_optimization_level': 3} | (
    {'xla_cpu_use_fusion_emitters': True} if _HAS_EMITTERS_FLAG else {}
)
"""What XLA does by itself, as options of one program."""
