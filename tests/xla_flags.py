"""How XLA is set up in tests, and in the processes that they start."""


def xla_flags(devices: int) -> str:
    """So many host devices, and programs that compile in less than half the time.

    XLA's older way of writing loops for CPUs is taken; results differ by rounding.
    """
    return f"--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false"
