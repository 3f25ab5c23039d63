"""What else stands in checkpoints besides tensors: harmless types, as values or inert placeholders.

Training programs keep paths, numbers of NumPy, dates and the like beside the network, which needs
none of them. Nothing is imported and nothing of theirs is called: a name in the pickle becomes a
class made here, whose objects take whatever the pickle does to them and hold nothing.
"""

from __future__ import annotations

from typing import Any

_BUILTINS = (
    *("set", "frozenset", "complex", "bytearray", "slice", "range", "bytes", "object"),
    *("int", "float", "str", "bool", "list", "dict", "tuple"),
)
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_NUMPY_CORES = ("numpy.core", "numpy._core")
# Known types that hold values, by module; old protocols call builtins by Python 2's name.
_HARMLESS = {
    "builtins": _BUILTINS,
    "__builtin__": (*_BUILTINS, "long", "unicode", "xrange"),
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "collections": ("deque", "UserDict", "UserList"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "types": ("SimpleNamespace",),
    "_codecs": ("encode",),
    "torch": ("device", "Generator"),
    "torch.torch_version": ("TorchVersion",),
    "torch.serialization": ("_get_layout",),
    "numpy": ("ndarray", "dtype", "bool_", "bool", "str_", "bytes_", "void", "datetime64"),
    "numpy.random._pickle": ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    **{f"{core}.multiarray": ("scalar", "_reconstruct") for core in _NUMPY_CORES},
    **{f"{core}.numeric": ("_frombuffer",) for core in _NUMPY_CORES},
}
# Their names all end like this: Float64DType, StrDType.
_NUMPY_DTYPES = "numpy.dtypes"
_DICTIONARIES = {("collections", "defaultdict"), ("collections", "Counter")}


def stand_in(module: str, name: str) -> type | None:
    """A new class for a harmless name, None for any other."""
    if (module, name) in _DICTIONARIES:
        return _dictionary()
    if name in _HARMLESS.get(module, ()) or (module == _NUMPY_DTYPES and name.endswith("DType")):
        return placeholder()
    return None


def _dictionary() -> type:
    class Dictionary(dict):
        """A dictionary whose constructor's arguments (a factory, counts) are not needed."""

        def __init__(self, *arguments: Any):
            super().__init__(*[a for a in arguments if isinstance(a, dict)])

    return Dictionary


def placeholder() -> type:
    """A class of inert objects, made anew: a pickle can change what it is given."""

    class Placeholder:
        """Takes any arguments, items and state, and keeps nothing of them."""

        def __new__(cls, *_: Any, **__: Any):
            return object.__new__(cls)

        def __init__(self, *_: Any, **__: Any):
            pass

        def __call__(self, *_: Any, **__: Any):
            return self

        def __setstate__(self, state: Any):
            pass

        def __setitem__(self, key: Any, value: Any):
            pass

        def append(self, item: Any):
            """Nothing is kept."""

        def extend(self, items: Any):
            """Nothing is kept."""

        def add(self, item: Any):
            """Nothing is kept."""

    return Placeholder
