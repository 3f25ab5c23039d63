"""Published peak rates of accelerators, for shares of what a chip could do.

Dense products in bfloat16, operations a second of one device as JAX counts devices. CPUs are not
listed: what they reach has to be measured.
"""

from __future__ import annotations

import re

# Beginning of jax's ``device_kind`` -> operations a second; the first that fits counts.
_PEAKS = (
    ("NVIDIA B200", 2250e12),
    ("NVIDIA GH200", 989e12),
    ("NVIDIA H200 NVL", 835e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L40", 181e12),
    ("NVIDIA L4", 121e12),
    ("NVIDIA A10G", 70e12),
    ("NVIDIA GeForce RTX 4090", 165e12),
    ("NVIDIA GeForce RTX 3090", 71e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5p", 459e12),
    ("TPU v5", 459e12),
    ("TPU v6 lite", 918e12),
    ("TPU v6e", 918e12),
    ("TPU v6", 918e12),
    ("TPU7x", 1154e12),
)
# Behind a name these words make another chip of it, or a part of one.
_OTHERS = re.compile(r"\b(Laptop|Max-Q|Ti|SUPER|D|NVL|lite|MIG)\b")


def peak_flops(device_kind: str) -> float | None:
    """bfloat16 operations a second of a device by its kind, None where none is published here."""
    for name, peak in _PEAKS:
        rest = device_kind.removeprefix(name)
        # 'NVIDIA L4' is not the beginning of 'NVIDIA L40': what follows is a word of its own.
        whole = device_kind.startswith(name) and (not rest or rest[0] in " -")
        if whole and not _OTHERS.search(rest):
            return peak
    return None
