"""Published peak rates of accelerators, for shares of what a chip could do.

Dense products in bfloat16, operations a second of one device as JAX counts devices. CPUs are not
listed: what they reach has to be measured.
"""

from __future__ import annotations

# Beginning of jax's ``device_kind`` -> operations a second; the first that fits counts.
_PEAKS = (
    ("NVIDIA B200", 2250e12),
    ("NVIDIA GH200", 989e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA A10G", 70e12),
    ("NVIDIA GeForce RTX 4090", 165e12),
    ("NVIDIA GeForce RTX 3090", 71e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
    ("TPU7x", 1154e12),
)


def peak_flops(device_kind: str) -> float | None:
    """bfloat16 operations a second of a device by its kind, None where none is published here."""
    for name, peak in _PEAKS:
        if device_kind.startswith(name):
            return peak
    return None
