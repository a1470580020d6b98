"""What XLA must know of a GPU to compile for one that is not there: its `GpuTargetConfigProto`.

Figures of NVIDIA's: CUDA programming guide, compute capability 9.0; H100 datasheet (SXM); memory,
clock and cache as the driver reports them, after XLA's own `h100_sxm.txtpb`.
"""

TARGETS = {
    'h100': """
        platform_name: "CUDA"
        device_description_str: "NVIDIA H100 80GB HBM3"
        runtime_version { major: 13 }
        dnn_version_info { major: 9 minor: 12 }
        gpu_device_info {
          cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
          core_count: 132
          fpus_per_core: 128
          clock_rate_ghz: 1.98
          device_memory_size: 84942979072
          memory_bandwidth: 3352320000000
          l2_cache_size: 52428800
          threads_per_warp: 32
          threads_per_block_limit: 1024
          threads_per_core_limit: 2048
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
          registers_per_block_limit: 65536
          registers_per_core_limit: 65536
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: 232448
          shared_memory_per_core: 233472
        }
    """,
}
"""By kind of `DEVICES`, in protobuf's text format."""
