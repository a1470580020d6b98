"""How XLA compiles in tests, and how for users."""

FLAGS = {
    '--xla_force_host_platform_device_count': '8',
    # Programs of tests run for milliseconds: a quarter of the time to compile. Flags that XLA_FLAGS
    # sets already are left as they are.
    '--xla_backend_optimization_level': '0',
    '--xla_cpu_use_fusion_emitters': 'false',
}
AS_FOR_USERS = {'xla_backend_optimization_level': 3, 'xla_cpu_use_fusion_emitters': True}
"""What XLA does by itself, as options of one program."""
