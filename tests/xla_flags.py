"""How XLA is set up in tests, and in the processes that they start."""

from importlib.metadata import version

# The older way of writing loops, and with it the flag, went between 0.11.0 and 0.11.2: a flag that
# is not known ends the process without a word in pytest's log.
FUSION_EMITTERS_ONLY = tuple(map(int, version("jaxlib").split(".")[:2])) >= (0, 11)


def xla_flags(devices: int) -> str:
    """So many host devices, and programs that compile in less than half the time.

    XLA's older way of writing loops for CPUs is taken (results differ by rounding), and a program
    is not split into parts that are compiled at a time: tests run as many processes as cores.
    """
    flags = [
        f"--xla_force_host_platform_device_count={devices}",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
    if not FUSION_EMITTERS_ONLY:
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)
