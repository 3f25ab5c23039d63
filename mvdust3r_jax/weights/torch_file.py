"""PyTorch's ``.pth`` files without PyTorch, and without trusting them.

A file of `torch.save` is a zip archive: ``data.pkl`` describes the objects, and every tensor's
bytes lie uncompressed in an entry of their own. The pickle is read by an unpickler that can build
nothing but tensors, plain containers, `argparse.Namespace` (as a dict) and the stand-ins of
`torch_objects`; any other name in it is refused. Tensors are read-only NumPy views of the
memory-mapped file: opening costs no memory, whatever the size. `torch_writer` is the other
direction, `torch_args` reads the network's settings.
"""

from __future__ import annotations

import collections
import functools
import mmap
import os
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mvdust3r_jax.weights import torch_objects

# The dtype of each storage class of the module `torch`, by its name here.
STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
_NUMPY_NAMES = [*STORAGES.values(), "uint64", "uint32", "uint16"]
_OTHER_NAMES = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
DTYPES = {name: np.dtype(name) for name in _NUMPY_NAMES if name != "bfloat16"}
DTYPES |= {name: np.dtype(getattr(ml_dtypes, name)) for name in ["bfloat16", *_OTHER_NAMES]}
# How the magic number of the format before PyTorch 1.6 is pickled.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Largest description of a checkpoint that is read; real ones have one or two megabytes.
_MAX_PICKLE_BYTES = 256 << 20


class TorchFileError(ValueError):
    """The file is no checkpoint that can be read; the message says why and what to do."""


def read(path: str | os.PathLike, ignore_objects: bool = False) -> Any:
    """The object that was saved, usually a dict; tensors are read-only views of the mapped file.

    ignore_objects: make inert placeholders of objects of any other class, too; nothing is run.

    Raises FileNotFoundError, or TorchFileError for a file that is empty, truncated, of the old
    format, no PyTorch file at all, or whose pickle names anything else.
    """
    path = Path(path)
    _check_start(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, ignore_objects)
    except TorchFileError:
        raise
    # A damaged archive makes zipfile raise more than BadZipFile: bad names, sizes, versions.
    except Exception as error:
        raise TorchFileError(
            f"{path} is truncated or damaged ({error}); copy or download it again"
        ) from error


def _check_start(path: Path) -> None:
    """Name what the file is, where its first bytes tell that it is no zip archive."""
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\x03\x04"):
        return
    if not start:
        reason = "is empty; copy or download it again"
    elif start.startswith(_LEGACY_START):
        reason = (
            "has PyTorch's legacy format (before 1.6); re-save it where PyTorch is installed: "
            "torch.save(torch.load(path, weights_only=True), path)"
        )
    elif start[:1] == b"\x80":
        reason = "is a bare pickle, not a file of torch.save; it was not opened"
    elif start.startswith(b"version https://git-lfs"):
        reason = "is a Git LFS pointer, not the weights; run: git lfs pull"
    elif start.lstrip().startswith(b"<"):
        reason = "is a web page, not the weights; the download link was probably wrong"
    else:
        reason = f"is no PyTorch file (it starts with {start[:8]!r})"
    raise TorchFileError(f"{path} {reason}")


def _read_archive(path: Path, archive: zipfile.ZipFile, ignore_objects: bool) -> Any:
    entries = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise TorchFileError(f"{path} is a zip archive, but not of torch.save: no single data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in entries:
        raise TorchFileError(f"{path} is a TorchScript program, not a checkpoint")
    if f"{root}byteorder" in entries and archive.read(f"{root}byteorder") != b"little":
        raise TorchFileError(f"{path} was written on a big-endian machine; re-save it on another")
    if entries[pickles[0]].file_size > _MAX_PICKLE_BYTES:
        raise TorchFileError(f"{path}: its data.pkl is over {_MAX_PICKLE_BYTES} bytes")
    mapped = np.memmap(path, np.uint8, mode="r")
    prefix = f"{root}data/"
    storages = {
        name.removeprefix(prefix): _stored_bytes(path, mapped, info)
        for name, info in entries.items()
        if name.startswith(prefix)
    }
    with archive.open(pickles[0]) as stream:
        reader = _Unpickler(stream, storages, ignore_objects)
        try:
            return reader.load()
        except TorchFileError as error:
            told = TorchFileError(f"{path}: {error}")
            told.__notes__ = getattr(error, "__notes__", [])
            raise told from error
        # A malformed pickle raises whatever its broken opcodes lead to.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise TorchFileError(f"{path}: its pickle is damaged ({reason})") from error


def _stored_bytes(path: Path, mapped: np.memmap, info: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of one uncompressed entry, as a view."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise TorchFileError(f"{path}: {info.filename} is compressed; torch.save stores it plain")
    header = mapped[info.header_offset : info.header_offset + 30].tobytes()
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise TorchFileError(f"{path} is truncated or damaged at {info.filename}")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    if start + info.file_size > len(mapped):
        raise TorchFileError(f"{path} is truncated or damaged at {info.filename}")
    return mapped[start : start + info.file_size]


def release(arrays: Iterable[np.ndarray]) -> None:
    """Let the system drop the pages under views of a mapped file; reading them again is allowed.

    Arrays that live elsewhere are left alone.
    """
    for array in arrays:
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        mapped = root.base
        if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            continue
        low, high = np.lib.array_utils.byte_bounds(array)
        start = low - np.lib.array_utils.byte_bounds(root)[0]
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (start + high - low - first) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0:
            mapped.madvise(mmap.MADV_DONTNEED, first, length)


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain data.

    A pickle can set attributes of what it names, so nothing that outlives the file is handed to
    it: classes and builders are made anew for each file, dtypes are passed as strings.
    """

    def __init__(self, stream, storages: Mapping[str, np.ndarray], ignore_objects: bool):
        super().__init__(stream, encoding="utf-8")
        self._storages, self._ignore_objects = storages, ignore_objects

        class Namespace(dict):
            """`argparse.Namespace`, whose pickled state is its attributes."""

            def __setstate__(self, state):
                self.update(state)

        self._globals = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("argparse", "Namespace"): Namespace,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): functools.partial(_tensor),
            ("torch._utils", "_rebuild_tensor_v3"): functools.partial(_retyped_tensor),
            ("torch._utils", "_rebuild_parameter"): functools.partial(_parameter),
            ("torch.storage", "UntypedStorage"): "uint8",
        }
        self._globals |= {("torch", name): dtype for name, dtype in STORAGES.items()}
        self._globals |= {("torch", name): name for name in DTYPES}

    def find_class(self, module: str, name: str) -> Any:
        """What a pickled name stands for; TorchFileError with the name where it is not listed."""
        known = self._globals.get((module, name)) or torch_objects.stand_in(module, name)
        if known is not None:
            return known
        if self._ignore_objects:
            return torch_objects.placeholder()
        error = TorchFileError(
            f"its pickle wants {module}.{name}; only tensors, plain data and well-known types "
            "are read, because anything else could run foreign code"
        )
        error.add_note("--ignore-objects (also of convert) passes over such objects: nothing runs")
        raise error

    def persistent_load(self, identifier: Any) -> np.ndarray:
        """The one-dimensional array of one storage."""
        kind, dtype_name, key, _, count = identifier
        if kind != "storage" or key not in self._storages:
            raise TorchFileError(f"the bytes of its {kind} {key!r} are missing")
        stored, dtype = self._storages[key], DTYPES[dtype_name]
        if len(stored) != count * dtype.itemsize:
            raise TorchFileError(
                f"its storage {key!r} has {len(stored)} bytes instead of {count} x {dtype.itemsize}"
            )
        return stored.view(dtype)


def _tensor(storage, offset, size, stride, *_) -> np.ndarray:
    """A strided view (`_rebuild_tensor_v2`); NumPy checks that it stays inside the storage."""
    strides = tuple(step * storage.itemsize for step in stride)
    if min((offset, *size, *strides)) < 0:
        raise TorchFileError(f"a tensor has offset {offset}, size {size} and stride {stride}")
    return np.ndarray(tuple(size), storage.dtype, storage, offset * storage.itemsize, strides)


def _retyped_tensor(storage, offset, size, stride, _grad, _hooks, dtype_name, *_) -> np.ndarray:
    """A view of untyped bytes (`_rebuild_tensor_v3`)."""
    return _tensor(storage.view(DTYPES[dtype_name]), offset, size, stride)


def _parameter(data, *_) -> np.ndarray:
    return data
