"""Write ``.pth`` files that `torch.load` reads, without PyTorch.

The description is a protocol-2 pickle whose opcodes are written here one by one, because
Python's own pickler only writes names (`torch._utils...`) that it can import.
"""

from __future__ import annotations

import argparse
import functools
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from mvdust3r_jax.weights.torch_file import STORAGES, release

_STORAGE_OF = {name: storage for storage, name in STORAGES.items()}
# torch.load(mmap=True) wants the bytes of every storage aligned to this.
_ALIGNMENT = 64
_LOCAL_HEADER_BYTES = 30


def write(path: str | os.PathLike, checkpoint: Any) -> None:
    """Save dicts, lists, tuples, strings, numbers, None, argparse.Namespace and NumPy arrays.

    Arrays become contiguous CPU tensors, each laid out as it is written (views may be given); one
    array object used twice becomes one shared storage.
    Raises TypeError for anything else, ValueError for a dtype that PyTorch's storages lack.
    """
    description = _Description()
    description.add(checkpoint)
    with open(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        write_entry = functools.partial(_write_entry, file, archive)
        write_entry("archive/data.pkl", description.pickled())
        write_entry("archive/byteorder", b"little")
        for key, array in enumerate(description.arrays):
            # Zero-sized and bfloat16 arrays have no buffer of their own kind, bytes always.
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            write_entry(f"archive/data/{key}", data)
            # What has been written need no longer be held in memory for a mapped file.
            release([array])
        write_entry("archive/version", b"3\n")


def _write_entry(file, archive: zipfile.ZipFile, name: str, data: bytes | np.ndarray) -> None:
    """One stored entry; its extra field is padded until the data begins at an aligned offset."""
    info = zipfile.ZipInfo(name)
    # 20 bytes: zipfile puts its own zip64 field before the data when told that the size is large.
    big = len(data) >= zipfile.ZIP64_LIMIT
    begin = file.tell() + _LOCAL_HEADER_BYTES + len(name) + 4 + 20 * big
    padding = -begin % _ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(info, "w", force_zip64=big) as entry:
        entry.write(memoryview(data))


class _Description:
    """The pickle's opcodes so far, and the arrays that they refer to by number."""

    def __init__(self):
        self._opcodes = bytearray(pickle.PROTO + b"\x02")
        self._key_of: dict[int, int] = {}
        self.arrays: list[np.ndarray] = []

    def pickled(self) -> bytes:
        """The finished pickle."""
        return bytes(self._opcodes + pickle.STOP)

    def add(self, value: Any) -> None:
        """Append the opcodes that leave ``value`` on the unpickler's stack."""
        if isinstance(value, np.ndarray):
            self._add_tensor(value)
        elif isinstance(value, argparse.Namespace):
            self._name("argparse", "Namespace")
            self._emit(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self.add(vars(value))
            self._emit(pickle.BUILD)
        elif isinstance(value, Mapping):
            self._emit(pickle.EMPTY_DICT + pickle.MARK)
            for key, item in value.items():
                self.add(key)
                self.add(item)
            self._emit(pickle.SETITEMS)
        elif isinstance(value, list):
            self._emit(pickle.EMPTY_LIST + pickle.MARK)
            self._add_all(value)
            self._emit(pickle.APPENDS)
        elif isinstance(value, tuple):
            self._emit(pickle.MARK)
            self._add_all(value)
            self._emit(pickle.TUPLE)
        else:
            self._add_plain(value)

    def _emit(self, opcodes: bytes) -> None:
        self._opcodes += opcodes

    def _name(self, module: str, name: str) -> None:
        self._emit(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def _add_all(self, values) -> None:
        for value in values:
            self.add(value)

    def _add_plain(self, value: Any) -> None:
        if not isinstance(value, str | int | float | None):
            raise TypeError(f"a .pth file cannot hold {value!r} of type {type(value).__name__}")
        # Protocol 2 of a plain value: two bytes of header, the value, STOP; memo numbers of
        # strings (at most one here) are never read, so they may repeat.
        self._emit(pickle.dumps(value, protocol=2)[2:-1])

    def _add_tensor(self, array: np.ndarray) -> None:
        """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
        if array.dtype.name not in _STORAGE_OF:
            raise ValueError(f"PyTorch has no storage class for {array.dtype} {array.shape}")
        key = self._key_of.setdefault(id(array), len(self.arrays))
        if key == len(self.arrays):
            self.arrays.append(array)
        strides = [int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim)]
        self._name("torch._utils", "_rebuild_tensor_v2")
        self._emit(pickle.MARK + pickle.MARK)
        self.add("storage")
        self._name("torch", _STORAGE_OF[array.dtype.name])
        self._add_all([str(key), "cpu", array.size])
        self._emit(pickle.TUPLE + pickle.BINPERSID)
        self._add_all([0, tuple(map(int, array.shape)), tuple(strides), False])
        self._name("collections", "OrderedDict")
        self._emit(pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.TUPLE + pickle.REDUCE)
