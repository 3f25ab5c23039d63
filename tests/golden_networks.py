"""Small networks whose outputs are known: weights and images follow from names and seeds.

``tests/golden/model/*.npz`` hold float64 outputs of the published networks (stored as float32) for
these weights; where ``stride`` stands in a file, only every stride-th pixel was kept.
"""

import dataclasses
import functools
import math
import zlib
from pathlib import Path

import jax
import numpy as np

from mvdust3r_jax import MVDust3r
from mvdust3r_jax.weights import port

FOLDER = Path(__file__).parent / "golden" / "model"
OUTPUTS = ("pts3d", "conf", "rgb", "opacity", "scale", "rotation")


def tensor(name, shape):
    """The weights that belong to a PyTorch name."""
    r = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        r = 1 + 0.1 * np.abs(r)
    elif name.endswith("running_mean"):
        r = 0.1 * r
    elif name.endswith("mask_token"):
        r = 0.02 * r
    elif len(shape) == 1:
        r = 1 + 0.1 * r if name.endswith("weight") else 0.05 * r
    else:
        r = r / math.sqrt(math.prod(shape[1:]))
    return np.asarray(r, np.float32)


def load(name):
    """Returns the file's arrays, the PyTorch state dict, the config and images [B, V, H, W, 3]."""
    with np.load(FOLDER / f"{name}.npz") as file:
        golden = dict(file)
    cfg = {k.removeprefix("cfg_"): int(v) for k, v in golden.items() if k.startswith("cfg_")}
    state = {}
    for entry in golden["state_dict_names"]:
        tensor_name, shape = str(entry).rsplit(":", 1)
        state[tensor_name] = tensor(tensor_name, tuple(int(s) for s in shape.split(",") if s))
    config = dataclasses.replace(
        port.config_from_torch(state),
        enc_heads=cfg["enc_num_heads"],
        dec_heads=cfg["dec_num_heads"],
        conf_max=1e9 if "nv" in cfg else math.inf,
    )
    shape = cfg.get("nv", 2), cfg["B"], 3, cfg["H"], cfg["W"]
    images = np.random.RandomState(cfg["seed"]).uniform(-1, 1, shape).astype(np.float32)
    return golden, state, config, images.transpose(1, 0, 3, 4, 2)


def num_refs(golden):
    return int(golden.get("cfg_n_ref", 1))


def outputs(prediction, *, pair):
    """Our prediction of all paths by golden name, in golden's axes: [R, B, V, H, W, C]."""
    g = prediction.gaussians
    arrays = [prediction.points, prediction.confidence]
    arrays += [g.colors, g.opacities, g.scales, g.rotations] if g is not None else []
    named = dict(zip(OUTPUTS, arrays, strict=False))
    return {k: a[:, 0] if pair else a.swapaxes(0, 1) for k, a in named.items()}


def all_paths(config, variables, images, num_refs):
    """The network's answer."""
    apply = functools.partial(MVDust3r(config).apply, num_refs=num_refs, all_paths=True)
    return jax.jit(apply)(variables, images)


def relative_errors(got, golden):
    """(name, largest error over the largest entry) of each output."""
    stride = int(golden.get("stride", 1))
    for name, array in got.items():
        want = golden[f"out_{name}"]
        array = np.asarray(array)
        array = array[..., None] if array.ndim < want.ndim else array
        step = (Ellipsis, slice(None, None, stride), slice(None, None, stride))
        array = array[step if name == "conf" else (*step, slice(None))]
        yield name, np.abs(array - want).max() / np.abs(want).max()
