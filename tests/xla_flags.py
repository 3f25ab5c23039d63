"""How XLA is set up in tests, and in the processes that they start."""


def xla_flags(devices: int) -> str:
    """So many host devices, and programs that compile in less than half the time.

    XLA's older way of writing loops for CPUs is taken (results differ by rounding), and a program
    is not split into parts that are compiled at a time: tests run as many processes as cores.
    """
    return (
        f"--xla_force_host_platform_device_count={devices} --xla_cpu_use_fusion_emitters=false"
        " --xla_cpu_parallel_codegen_split_count=1"
    )
