"""The safe reader of ``.pth`` files: equal to PyTorch on its own files, and refusing all others."""

import argparse
import collections
import datetime
import decimal
import fractions
import io
import math
import pickle
import types
import uuid
import zipfile
from pathlib import Path, PureWindowsPath

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import torch_args, torch_file, torch_writer

GOLDEN = Path(__file__).parents[1] / "golden" / "weights"
PTH = GOLDEN / "every_dtype.pth"
EXPECTED = dict(np.load(GOLDEN / "every_dtype.npz"))


def archive(path, data_pkl=None, extra=(), compression=zipfile.ZIP_STORED):
    """A zip file of torch.save's layout around the given pickle."""
    with zipfile.ZipFile(path, "w", compression) as out:
        if data_pkl is not None:
            out.writestr("archive/data.pkl", data_pkl)
        for name, data in extra:
            out.writestr(f"archive/{name}", data)
    return path


@pytest.mark.parametrize("name", EXPECTED)
def test_every_dtype_and_striding(name):
    """Values equal PyTorch's, bit by bit, as a read-only view of the file."""
    tensor = torch_file.read(PTH)["model"][name]
    np.testing.assert_array_equal(tensor.astype(EXPECTED[name].dtype), EXPECTED[name])
    assert not tensor.flags.writeable


def test_what_stands_beside_the_model():
    """Optimizer state, namespace and counters come as plain data."""
    checkpoint = torch_file.read(PTH)
    assert checkpoint["epoch"] == 3 and checkpoint["best_so_far"] == 0.5
    assert checkpoint["optimizer"]["state"][0]["exp_avg"].shape == (2, 2)
    assert checkpoint["args"]["lr"] == 1e-4


def test_shared_storage_is_shared():
    """Two names of one tensor are two views of the same bytes."""
    model = torch_file.read(PTH)["model"]
    assert np.shares_memory(model["f32"], model["shared"])


def test_released_pages_can_be_read_again(tmp_path):
    """Dropping the pages under mapped tensors changes no value; other arrays are left alone."""
    large = np.arange(100_000, dtype=np.float32).reshape(10, -1)
    torch_writer.write(tmp_path / "x.pth", {"a": large, "b": large[:2] + 1})
    loaded = torch_file.read(tmp_path / "x.pth")
    torch_file.release([loaded["a"], loaded["a"].T[3:], loaded["b"], large, np.zeros(3)])
    np.testing.assert_array_equal(loaded["a"], large)
    np.testing.assert_array_equal(loaded["b"], large[:2] + 1)


def test_network_settings_come_from_the_constructor_string():
    """The fields of ModelConfig that names and shapes cannot tell."""
    tensors, fields = torch_args.load_checkpoint(PTH)
    assert set(tensors) == set(EXPECTED)
    assert fields == dict(enc_heads=4, sh_degree=1, conf_max=1e9)
    assert torch_args.image_size(PTH) == (224, 224)


def test_constructor_is_parsed_as_a_literal():
    """Infinities, signs and nesting are read."""
    name, arguments = torch_args.parse_constructor("Net(a=('exp', -inf, inf), b={'x': [1, None]})")
    assert (name, arguments) == ("Net", {"a": ("exp", -math.inf, math.inf), "b": {"x": [1, None]}})


@pytest.mark.parametrize(
    "text",
    ["Net(a=open('x'))", "Net(1)", "__import__('os').system('ls')", "a b", "(" * 5000],
)
def test_constructor_with_code_is_refused(text):
    """Nothing but a call with literal keywords passes; nothing is evaluated."""
    with pytest.raises(ValueError, match="constructor string"):
        torch_args.parse_constructor(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"pos_embed": "cosine"}, "RoPE100"), ({"conf_mode": ("sigmoid", 0, 1)}, "conf_mode")],
)
def test_another_kind_of_network_is_refused(arguments, message):
    """Settings that this network does not have are named."""
    with pytest.raises(ValueError, match=message):
        torch_args.config_fields(arguments)


_NO_LITERALS = ("x={[1]: 2}", "x=-'a'", "x={**y}")


@pytest.mark.parametrize(
    "text",
    [
        *("conf_mode=('exp', 1)", "conf_mode=None", "conf_mode=('exp', 1, 'a')", "depth_mode=()"),
        *("conf_mode={}", *_NO_LITERALS),
    ],
)
def test_odd_constructors_are_errors_that_name_the_file(tmp_path, text):
    """Whatever is wrong with the arguments, for whoever wants the network or its image size."""
    args = argparse.Namespace(model=f"Net({text})")
    torch_writer.write(tmp_path / "x.pth", {"model": {"a": np.ones(3, np.float32)}, "args": args})
    message = "x.pth: .*(constructor string|conf_mode|depth_mode)"
    with pytest.raises(weight_files.WeightsError, match=message):
        weight_files.load_weights(tmp_path / "x.pth")
    if text in _NO_LITERALS:
        with pytest.raises(weight_files.WeightsError, match=message):
            weight_files.trained_on(tmp_path / "x.pth")


class _Evil:
    def __reduce__(self):
        return eval, ("print('run')",)


class _Foreign:
    """A class of somebody's own, which the pickle fills in every way it can."""

    def __init__(self):
        self.setting = 3


@pytest.mark.parametrize(("value", "name"), [(_Evil(), "eval"), (_Foreign(), "_Foreign")])
@pytest.mark.parametrize("protocol", [2, 5])
def test_any_other_global_is_refused_by_name(tmp_path, value, name, protocol):
    """A pickle that wants anything but tensors and well-known types is not loaded."""
    data = pickle.dumps({"model": value, "epoch": 3}, protocol=protocol)
    path = archive(tmp_path / "evil.pth", data)
    with pytest.raises(torch_file.TorchFileError, match=f"wants .*{name}") as told:
        torch_file.read(path)
    assert "--ignore-objects" in told.value.__notes__[0]


@pytest.mark.parametrize("protocol", [2, 5])
def test_unknown_objects_can_be_passed_over(tmp_path, protocol, capsys):
    """They become placeholders; nothing of theirs runs, and the rest is read."""
    content = {"evil": _Evil(), "own": [_Foreign()], "epoch": 3}
    path = archive(tmp_path / "a.pth", pickle.dumps(content, protocol=protocol))
    read = torch_file.read(path, ignore_objects=True)
    assert read["epoch"] == 3 and not hasattr(read["own"][0], "setting")
    assert type(read["evil"]).__name__ == "Placeholder" and capsys.readouterr().out == ""


class _Named:
    """Pickled as a call of ``module.name``, for types whose packages are not here."""

    def __init__(self, module, name, *arguments):
        self.path, self.arguments = (module, name), arguments

    def pickled(self):
        module, name = self.path
        head = b"\x80\x02" + f"c{module}\n{name}\n".encode()
        return head + pickle.dumps(self.arguments, protocol=2)[2:-1] + b"R."


HARMLESS = {
    "path": Path("runs") / "a",
    "windows": PureWindowsPath("C:/x"),
    "numpy": [np.float64(1), np.arange(3), np.array(["a"]), np.dtype("f4"), np.bool_(True)],
    "defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "counter": collections.Counter("aab"),
    "deque": collections.deque([1, 2], maxlen=5),
    "sets": [{1, 2}, frozenset("ab")],
    "dates": [datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "numbers": [1 + 2j, decimal.Decimal("0.1"), fractions.Fraction(1, 3), bytearray(b"x")],
    "others": [uuid.UUID(int=5), types.SimpleNamespace(a=1), slice(2), range(3)],
}


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("kind", HARMLESS)
def test_well_known_types_do_not_matter(tmp_path, kind, protocol):
    """They stand in training checkpoints beside the network, which is read all the same."""
    content = {"args": HARMLESS[kind], "keys": {str(i): i for i in range(3)}}
    path = archive(tmp_path / "a.pth", pickle.dumps(content, protocol=protocol))
    assert torch_file.read(path)["keys"] == {"0": 0, "1": 1, "2": 2}


@pytest.mark.parametrize(
    "value",
    [
        _Named("torch", "device", "cuda", 0),
        _Named("torch.torch_version", "TorchVersion", "2.4.0"),
        _Named("numpy.core.multiarray", "scalar", 1),
        _Named("pathlib._local", "PosixPath", "a", "b"),
    ],
    ids=lambda value: ".".join(value.path),
)
def test_types_of_packages_that_are_not_here(tmp_path, value):
    """PyTorch's devices and versions, older NumPy, newer Python."""
    assert torch_file.read(archive(tmp_path / "a.pth", value.pickled())) is not None


def test_dictionaries_keep_their_content(tmp_path):
    """A network's tensors may lie in a defaultdict."""
    content = collections.defaultdict(list, {"loss": [1.0]})
    path = archive(tmp_path / "a.pth", pickle.dumps(content, protocol=2))
    assert torch_file.read(path) == {"loss": [1.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ((GOLDEN / "legacy.pth").read_bytes(), "legacy format"),
        (pickle.dumps({"a": 1}), "bare pickle"),
        (b"<!doctype html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x89PNG\r\n", "is no PyTorch file"),
        (PTH.read_bytes()[:5000], "truncated"),
        (PTH.read_bytes()[2000:], "is no PyTorch file"),
    ],
)
def test_other_files_are_told_apart(tmp_path, content, message):
    """Each wrong kind of file has its own message."""
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(torch_file.TorchFileError, match=message):
        torch_file.read(path)


def test_other_archives_are_told_apart(tmp_path):
    """Zip files that are no checkpoint: without pickle, TorchScript, compressed, big-endian."""
    plain = pickle.dumps({}, protocol=2)
    with pytest.raises(torch_file.TorchFileError, match="not of torch.save"):
        torch_file.read(archive(tmp_path / "a", None, [("readme", b"x")]))
    with pytest.raises(torch_file.TorchFileError, match="TorchScript"):
        torch_file.read(archive(tmp_path / "b", plain, [("constants.pkl", b"")]))
    with pytest.raises(torch_file.TorchFileError, match="big-endian"):
        torch_file.read(archive(tmp_path / "c", plain, [("byteorder", b"big")]))
    with pytest.raises(torch_file.TorchFileError, match="compressed"):
        torch_file.read(archive(tmp_path / "d", plain, [("data/0", b"x")], zipfile.ZIP_DEFLATED))


def tensor_pickle(count=4, offset=0, size=(4,), stride=(1,), key="0"):
    """A pickle of one float32 tensor with the given layout, right or wrong."""
    out = io.BytesIO()
    pickled = torch_writer._Description()
    pickled._name("torch._utils", "_rebuild_tensor_v2")
    pickled._emit(pickle.MARK + pickle.MARK)
    pickled.add("storage")
    pickled._name("torch", "FloatStorage")
    pickled._add_all([key, "cpu", count])
    pickled._emit(pickle.TUPLE + pickle.BINPERSID)
    pickled._add_all([offset, size, stride, False, None])
    pickled._emit(pickle.TUPLE + pickle.REDUCE)
    out.write(pickled.pickled())
    return out.getvalue()


@pytest.mark.parametrize(
    "layout",
    [
        dict(size=(5,)),
        dict(stride=(2,)),
        dict(offset=1),
        dict(offset=-1),
        dict(stride=(-1,)),
        dict(size=(2**40, 2**40)),
        dict(count=5),
        dict(key="../../etc/passwd"),
    ],
)
def test_a_tensor_cannot_reach_outside_its_storage(tmp_path, layout):
    """Sizes, strides, offsets and storage names that lie are refused."""
    path = archive(tmp_path / "x.pth", tensor_pickle(**layout), [("data/0", bytes(16))])
    with pytest.raises(torch_file.TorchFileError):
        torch_file.read(path)
    good = archive(tmp_path / "y.pth", tensor_pickle(), [("data/0", bytes(16))])
    np.testing.assert_array_equal(torch_file.read(good), np.zeros(4, np.float32))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_files_raise_only_the_clear_error(tmp_path_factory, data):
    """Whatever bytes of a real file are altered or cut, it loads or raises TorchFileError."""
    content = bytearray(PTH.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        # The pickle and the central directory are the parts that are interpreted.
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.sampled_from([len(content), len(content) - 100, 4000]))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.pth"
    path.write_bytes(content)
    try:
        torch_file.read(path)
    except torch_file.TorchFileError as error:
        assert str(path) in str(error)


def test_writer_and_reader_are_inverse(tmp_path):
    """Nested plain data, a namespace and arrays of every storage class come back equal."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 4)).astype(np.float32)
    arrays = {name: base.astype(torch_file.DTYPES[name]) for name in torch_file.STORAGES.values()}
    arrays |= {"twice": base, "t": base.T, "empty": base[:0], "scalar": np.array(2.0)}
    saved = {
        "model": arrays | {"again": base},
        "args": argparse.Namespace(model="Net()", numbers=[1, -2.5, True, None], text="ü\n"),
        7: ("a", ("b", {})),
    }
    torch_writer.write(tmp_path / "x.pth", saved)
    loaded = torch_file.read(tmp_path / "x.pth")
    assert loaded["args"] == vars(saved["args"]) and loaded[7] == saved[7]
    for name, array in saved["model"].items():
        assert loaded["model"][name].dtype == array.dtype
        np.testing.assert_array_equal(loaded["model"][name], array)
    assert np.shares_memory(loaded["model"]["twice"], loaded["model"]["again"])


def test_writer_refuses_what_pytorch_lacks(tmp_path):
    """Unknown objects and dtypes are named."""
    with pytest.raises(TypeError, match="set"):
        torch_writer.write(tmp_path / "x.pth", {"a": {1}})
    with pytest.raises(ValueError, match="float8"):
        torch_writer.write(tmp_path / "x.pth", {"a": np.zeros(2, ml_dtypes.float8_e4m3fn)})


def test_not_a_network(tmp_path):
    """Checkpoints without named tensors say what they hold instead."""
    for saved, message in [([1], "holds a list"), ({"epoch": 1}, "no tensors.*epoch")]:
        torch_writer.write(tmp_path / "x.pth", saved)
        with pytest.raises(torch_file.TorchFileError, match=message):
            torch_args.load_checkpoint(tmp_path / "x.pth")


def test_wrapped_names_are_unwrapped(tmp_path):
    """Prefixes of DataParallel and torch.compile are removed, a bare state dict accepted."""
    names = ["module.a", "b", "_orig_mod.c", "module._orig_mod.d"]
    tensors = {name: np.ones(2, np.float32) for name in names}
    torch_writer.write(tmp_path / "x.pth", tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "X.SAFETENSORS")
    for name in ("x.pth", "X.SAFETENSORS"):
        assert sorted(torch_args.load_checkpoint(tmp_path / name)[0]) == ["a", "b", "c", "d"]
