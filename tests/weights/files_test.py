"""Weight files: every format gives back the same network, and wrong files say what is wrong."""

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import port, safetensors_file, torch_args, torch_file, torch_writer
from tests.weights import small_network
from tests.weights.small_network import assert_equal, numbers

CONFIG = dataclasses.replace(small_network.CONFIG, dec_heads=4, conf_max=1e4)


@pytest.fixture(scope="module")
def variables():
    return numbers(CONFIG, 0)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
def test_saved_weights_come_back(tmp_path, variables, name):
    """Config (heads, clip and SH degree too), what it was trained on, and arrays."""
    told = ((32, 48), None if name == "w.pth" else 8)
    weight_files.save_weights(tmp_path / name, variables, CONFIG, image_size=(32, 48), views=8)
    config, loaded = weight_files.load_weights(tmp_path / name)
    assert config == CONFIG and weight_files.trained_on(tmp_path / name) == told
    assert_equal(loaded, variables)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
def test_what_releases_have_fixed_comes_back_too(tmp_path, variables, name):
    """The limit of scales is no part of names, shapes or the constructor's arguments."""
    config = dataclasses.replace(CONFIG, max_scale=0.02)
    weight_files.save_weights(tmp_path / name, variables, config)
    assert weight_files.load_weights(tmp_path / name)[0] == config
    assert "up to 0.02" in torch_args.unlike_release(config)
    assert torch_args.unlike_release(CONFIG) is None


@pytest.mark.parametrize(
    ("value", "dtype", "told"),
    [
        (np.float32(np.nan), "float32", "not finite"),
        (np.float32(1e6), "float16", "as float16: params/.* not finite"),
        (np.float64(1e300), "float32", "not finite"),
        (np.complex64(1j), "float32", "complex"),
    ],
)
def test_values_that_a_file_cannot_hold(tmp_path, variables, value, dtype, told):
    """Neither converted nor loaded as something else, and nothing is left behind."""
    state = port.flax_to_torch(variables, CONFIG)
    state["enc_norm.weight"] = np.full_like(state["enc_norm.weight"], value, type(value))
    torch_writer.write(tmp_path / "a.pth", {"model": state})
    with pytest.raises(weight_files.WeightsError, match=told):
        weight_files.convert(tmp_path / "a.pth", tmp_path / "b.safetensors", dtype)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w"])
@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_precision_files(tmp_path, variables, name, dtype, error):
    """Parameters are rounded once and load as float32; batch statistics keep every bit."""
    weight_files.save_weights(tmp_path / name, variables, CONFIG, dtype=dtype)
    _, loaded = weight_files.load_weights(tmp_path / name)
    assert_equal(loaded["batch_stats"], variables["batch_stats"])
    compare = functools.partial(np.testing.assert_allclose, rtol=error, atol=1e-6)
    jax.tree.map(compare, loaded["params"], variables["params"])
    assert all(x.dtype == np.float32 for x in jax.tree.leaves(loaded))


def test_conversion_round_trip_is_exact(tmp_path, variables):
    """A release's file to safetensors and back: the same names, shapes, dtypes and values."""
    state = port.flax_to_torch(variables, CONFIG) | {
        "mask_token": np.ones((1, 1, 16), np.float32),
        "downstream_head1.skip_proj.0.norm.num_batches_tracked": np.array(7),
    }
    release = {
        "model": state,
        "optimizer": {"state": {0: {"step": np.array(1.0)}}},
        "args": argparse.Namespace(
            model="Net(pos_embed='RoPE100', conf_mode=('exp', 1, 1e4), enc_num_heads=2, "
            "dec_num_heads=4, pts_head_config={'skip': True}, img_size=(224, 224))"
        ),
    }
    torch_writer.write(tmp_path / "release.pth", release)
    weight_files.convert(tmp_path / "release.pth", tmp_path / "ours.safetensors")
    weight_files.convert(tmp_path / "ours.safetensors", tmp_path / "again.pth")
    assert weight_files.trained_on(tmp_path / "again.pth") == ((224, 224), None)
    back, config = port.load_torch_checkpoint(tmp_path / "again.pth")
    assert config == CONFIG and set(back) == set(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype, name
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_safetensors_with_pytorch_names(tmp_path, variables):
    """A plain state dict in safetensors loads like the .pth, heads from their usual width."""
    config = dataclasses.replace(CONFIG, enc_heads=1, dec_heads=1, conf_max=1e9)
    state = port.flax_to_torch(variables, config)
    safetensors.numpy.save_file(state, tmp_path / "torch.safetensors")
    loaded_config, loaded = weight_files.load_weights(tmp_path / "torch.safetensors")
    assert loaded_config == config
    assert_equal(loaded, variables)


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, variables, monkeypatch):
    """The last move fails: the earlier weights are back, and nothing else lies there."""
    weight_files.save_weights(tmp_path / "w", variables, CONFIG)
    replace = os.replace

    def fails(source, target):
        if Path(source).name.startswith(".partial-"):
            raise OSError("the disk is gone")
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        patch.setattr(os, "replace", fails)
        weight_files.save_weights(tmp_path / "w", numbers(CONFIG, 1), CONFIG, replace=True)
    assert_equal(weight_files.load_weights(tmp_path / "w")[1], variables)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("text", ['"ab"', "[64]", "[0, 64]", "[true, 64]", "64", "{"])
def test_an_impossible_size_is_an_error_that_names_the_file(tmp_path, text):
    """Of images, in the metadata of a file."""
    path = tmp_path / "odd.safetensors"
    safetensors_file.write(path, {}, {"image_size": text})
    with pytest.raises(weight_files.WeightsError, match="odd.safetensors: "):
        weight_files.trained_on(path)


def test_digest_is_that_of_the_content(tmp_path):
    """The same wherever it lies, another with a byte changed; a run's is its best checkpoint's."""
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    first.write_bytes(b"x" * 100), second.write_bytes(b"x" * 100)
    assert weight_files.digest(first) == weight_files.digest(second)
    second.write_bytes(b"x" * 99 + b"y")
    assert weight_files.digest(first) != weight_files.digest(second)
    for step in ("best/10", "checkpoints/20"):
        folder = tmp_path / "run" / step / "meta"
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(step)
    assert weight_files.digest(tmp_path / "run") == weight_files.digest(
        tmp_path / "run" / "best" / "10"
    )
    assert weight_files.digest(tmp_path / "run") != weight_files.digest(
        tmp_path / "run" / "checkpoints" / "20"
    )


def test_sources_for_a_warm_start(tmp_path, variables):
    """PyTorch's files give tensors by name (other networks' too), ours give variables."""
    torch_writer.write(tmp_path / "croco.pth", {"model": {"enc_norm.bias": np.ones(2, np.float32)}})
    assert list(weight_files.load_source(tmp_path / "croco.pth")) == ["enc_norm.bias"]
    weight_files.save_weights(tmp_path / "w.safetensors", variables, CONFIG)
    assert_equal(weight_files.load_source(tmp_path / "w.safetensors"), variables)


def test_files_of_another_network_are_refused(tmp_path, variables):
    """Missing, unexpected and misshapen arrays are listed together; foreign networks named so."""
    params = dict(variables["params"])
    params["extra"] = params.pop("src_point_head")
    params["decoder"] = params["decoder"] | {"norm": {"bias": np.ones(3, np.float32)}}
    weight_files.save_weights(tmp_path / "w.safetensors", variables | {"params": params}, CONFIG)
    with pytest.raises(weight_files.WeightsError) as caught:
        weight_files.load_weights(tmp_path / "w.safetensors")
    message = str(caught.value)
    assert "missing params/src_point_head/proj/bias" in message
    assert "unexpected params/extra/proj/bias" in message
    assert "params/decoder/norm/bias: expected (16,), got (3,)" in message
    torch_writer.write(tmp_path / "resnet.pth", {"conv1.weight": np.ones((2, 3, 7, 7), np.float32)})
    with pytest.raises(weight_files.WeightsError, match="resnet.pth: not a DUSt3R or MV-DUSt3R"):
        weight_files.load_weights(tmp_path / "resnet.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "a.safetensors is empty"),
        ("b.safetensors", b"\xff" * 100, "b.safetensors is empty, damaged"),
        ("e.safetensors", b"\2\0\0\0\0\0\0\0[]", "e.safetensors is damaged"),
        ("c.pth", b"", "is empty"),
        ("d.png", b"\x89PNG", "is no PyTorch file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    """Empty, random and foreign files end in one clear error."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(weight_files.WeightsError, match=message):
        weight_files.load_weights(tmp_path / name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool", "uint16"])
def test_mapped_safetensors_equal_the_library(tmp_path, dtype):
    """Values, shapes (empty and scalar too) and metadata are those of the library's reader."""
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(3, 4)), "empty": np.zeros((0, 3)), "scalar": np.array(2.0)}
    arrays = {name: array.astype(torch_file.DTYPES[dtype]) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors", metadata={"k": "v"})
    loaded, metadata = safetensors_file.read(tmp_path / "x.safetensors")
    assert metadata == {"k": "v"}
    assert_equal(loaded, arrays)
    assert all(x.dtype == torch_file.DTYPES[dtype] for x in loaded.values())


@pytest.mark.parametrize(("written", "read"), [("null", {}), ('{"k": 5}', None), ("[1]", None)])
def test_metadata_that_is_no_text_by_name_is_none_or_an_error(tmp_path, written, read):
    """The format's own reader takes null for none."""
    header = f'{{"__metadata__": {written}}}'.encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    if read is not None:
        assert safetensors_file.read(path) == ({}, read)
        return
    with pytest.raises(safetensors_file.SafetensorsFileError, match="x.safetensors is damaged"):
        safetensors_file.read(path)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_safetensors_raise_only_the_clear_error(tmp_path_factory, data):
    """Whatever bytes are altered or cut, it loads or raises the error that names the file."""
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    safetensors.numpy.save_file({"a": np.ones((2, 3)), "b": np.ones(4, np.int32)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) - 8, 60, 3]))])
    try:
        safetensors_file.read(path)
    except safetensors_file.SafetensorsFileError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, variables, name, value):
    """One such value would make every result meaningless."""
    broken = jax.tree.map(np.array, variables)
    jax.tree.leaves(broken["params"])[3].flat[-1] = value
    weight_files.save_weights(tmp_path / name, broken, CONFIG)
    with pytest.raises(weight_files.WeightsError, match=f"{name}: params/.* not finite"):
        weight_files.load_weights(tmp_path / name)


def test_missing_and_empty_places(tmp_path):
    """No file, and a folder without weights."""
    with pytest.raises(FileNotFoundError, match="no weights at"):
        weight_files.load_weights(tmp_path / "none.pth")
    with pytest.raises(weight_files.WeightsError, match="neither config.json nor"):
        weight_files.load_weights(tmp_path)


def test_text_that_is_no_unicode_is_said_in_words(tmp_path, variables):
    """Not by the name of the coding alone."""
    weight_files.save_weights(tmp_path / "w", variables, CONFIG)
    (tmp_path / "w" / "config.json").write_bytes(b"\xff{}")
    with pytest.raises(weight_files.WeightsError, match="can't decode byte 0xff"):
        weight_files.load_weights(tmp_path / "w")


def test_config_of_a_newer_version(tmp_path, variables):
    """Fields that this version does not know are named."""
    weight_files.save_weights(tmp_path / "w", variables, CONFIG)
    fields = dataclasses.asdict(CONFIG) | {"rope3d": True}
    (tmp_path / "w" / "config.json").write_text(json.dumps(fields))
    with pytest.raises(weight_files.WeightsError, match="rope3d"):
        weight_files.load_weights(tmp_path / "w")


def test_a_failed_save_leaves_nothing(tmp_path, variables):
    """Neither the target nor a partial file stays behind; existing folders are not replaced."""
    broken = {"params": {"a": np.zeros(2, np.float32)}}
    with pytest.raises(ValueError, match="missing"):
        weight_files.save_weights(tmp_path / "w.pth", broken, CONFIG)
    for name, dtype, message in [("w.onnx", "float32", ".safetensors"), ("w", "int8", "bfloat16")]:
        with pytest.raises(ValueError, match=message):
            weight_files.save_weights(tmp_path / name, variables, CONFIG, dtype=dtype)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        weight_files.save_weights(tmp_path / "there", variables, CONFIG)


def test_written_safetensors_lie_where_jax_takes_them(tmp_path):
    """Another reader sees the same tensors; those of whole 64 bytes become JAX arrays uncopied."""
    path = tmp_path / "w.safetensors"
    tensors = {
        "a": np.arange(3, dtype=np.float32),
        "b": np.arange(64, dtype=np.float32).reshape(4, 16).T,
        "c": np.array(7, np.int64),
        "d": np.ones((2, 32), np.float16),
    }
    safetensors_file.write(path, tensors, {"key": "text"})
    other, (ours, metadata) = safetensors.numpy.load_file(path), safetensors_file.read(path)
    assert metadata == {"key": "text"} and other.keys() == ours.keys() == tensors.keys()
    for name, want in tensors.items():
        for got in (other[name], ours[name]):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    assert ours["b"].ctypes.data % 64 == ours["d"].ctypes.data % 64 == 0
    on_device = jax.device_put(ours["b"], jax.devices()[0])
    assert on_device.unsafe_buffer_pointer() == ours["b"].ctypes.data


MEASURED = """
import sys
from pathlib import Path
from mvdust3r_jax.weights import contents, files, safetensors_file, shapes


def peak():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) << 10


shapes.variable_shapes(contents.config_from_json(safetensors_file.read(sys.argv[1])[1]["config"]))
before = peak()
files.convert(sys.argv[1], sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak memory")
def test_back_to_pytorch_tensor_by_tensor(tmp_path):
    """A file is converted in much less memory than it is large, and comes back exactly."""
    config = dataclasses.replace(CONFIG, enc_dim=512, enc_depth=9, enc_heads=8)
    names = ("there.safetensors", "back.pth")
    source, target = (tmp_path / name for name in names)
    rng = np.random.default_rng(0)
    tree = abstract_variables(config)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), tree)
    weight_files.save_weights(source, variables, config)
    command = [sys.executable, "-c", MEASURED, source, target]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert source.stat().st_size > 100e6
    assert int(done.stdout) < 0.6 * source.stat().st_size
    back = port.load_torch_checkpoint(target)[0]
    for name, tensor in port.flax_to_torch(variables, config).items():
        np.testing.assert_array_equal(back[name], tensor)


def test_pytorch_reads_what_is_written(tmp_path, variables):
    """PyTorch's own reader, where it is installed, gives the same tensors."""
    torch = pytest.importorskip("torch")
    weight_files.save_weights(tmp_path / "w.pth", variables, CONFIG)
    loaded = torch.load(tmp_path / "w.pth", weights_only=False)["model"]
    for name, tensor in port.flax_to_torch(variables, CONFIG).items():
        np.testing.assert_array_equal(loaded[name].numpy(), tensor)
