"""``.safetensors`` files: read as views of the memory-mapped file, written tensor by tensor.

A file is the length of its header (8 bytes, little-endian), the header (JSON: per tensor its dtype,
shape and byte range; text under ``__metadata__``), and the tensors' bytes. Files written here have
their tensors where JAX on CPUs takes them as they lie, so that weights are in memory only once.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_},
}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
# Where arrays begin that JAX does not copy: at multiples of this many bytes.
ALIGNMENT = 64
# The format's own limit on headers.
_MAX_HEADER_BYTES = 100_000_000


class SafetensorsFileError(ValueError):
    """The file is no safetensors file, or a damaged one."""


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read-only views of the tensors by name, and the metadata.

    Raises SafetensorsFileError (also for dtypes that NumPy lacks), FileNotFoundError.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if length > min(_MAX_HEADER_BYTES, size - 8):
            raise SafetensorsFileError(f"{path} is empty, damaged or no safetensors file")
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise TypeError(f"metadata of text is expected, got {metadata}")
        mapped = np.memmap(path, np.uint8, mode="r")[8 + length :]
        return {name: _view(mapped, entry) for name, entry in header.items()}, metadata
    # The header of a damaged file can be any JSON, or none.
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SafetensorsFileError(f"{path} is damaged: {error!r}") from error


def _view(mapped: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(mapped) or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"bytes {begin}..{end} do not hold {dtype} {shape}")
    return mapped[begin:end].view(dtype).reshape(shape)


def write(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write tensors by name and text by key.

    Tensors whose size is a multiple of `ALIGNMENT` come first and lie at multiples of it; the
    format allows no gaps, so the few others follow. KeyError for a dtype that the format lacks.
    """
    ordered = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT != 0, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in ordered:
        begin, end = end, end + tensors[name].nbytes
        dtype, shape = _NAMES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8))
