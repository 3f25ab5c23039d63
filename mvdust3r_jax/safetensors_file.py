"""Reading ``.safetensors`` files as views of the memory-mapped file, whatever their size.

A file is the length of its header (8 bytes, little-endian), the header (JSON: per tensor its dtype,
shape and byte range; text under ``__metadata__``), and the tensors' bytes.
"""

from __future__ import annotations

import json
import math
import os
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_},
}
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
        metadata = header.pop("__metadata__", {})
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
