"""The rasterizer compiles for a TPU at the training shapes, and fits its memory."""

import importlib.util
import os
import subprocess
import sys

import pytest

# High-bandwidth memory of a TPU v5e chip.
HBM_BYTES = 15.75 * 2**30

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from mvdust3r_jax.splat import rasterize

topology = topologies.get_topology_desc(
    platform="tpu", topology_name="v5e:1x1", chips_per_host_bounds=[1, 1, 1])
sharding = NamedSharding(Mesh(np.array(topology.devices), ("data",)), PartitionSpec())
count, cameras, size = 8 * 224 * 224, 10, 224

def loss(means, quats, scales, opacities, colors, viewmats, Ks):
    image, _, info = rasterize(means, quats, scales, opacities, colors, viewmats, Ks, size, size,
                               eps2d=0.1, far_plane=100.0, backgrounds=jnp.ones((cameras, 3)))
    return jnp.mean(image**2), info.overflow

shapes = [(count, 3), (count, 4), (count, 3), (count,), (count, 3)]
shapes += [(cameras, 4, 4), (cameras, 3, 3)]
arrays = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in shapes]
step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))
# The least effort of the compiler: ten times as fast, and programs that need more memory, not less.
options = {"optimization_level": 9}  # O0
memory = step.lower(*arrays).compile(options).memory_analysis()
print("bytes", memory.argument_size_in_bytes + memory.output_size_in_bytes
      + memory.temp_size_in_bytes)
"""


@pytest.mark.slow
def test_training_shapes_compile_for_tpu_v5e(capsys):
    """8 views of 224x224 as Gaussians, 10 cameras, forward and backward: within 15.75 GiB."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install 'mvdust3r-jax[tpu-aot]'")
    environment = os.environ | dict(
        JAX_PLATFORMS="cpu",
        TPU_SKIP_MDS_QUERY="1",
        ALLOW_MULTIPLE_LIBTPU_LOAD="1",
        TPU_ACCELERATOR_TYPE="v5litepod-16",
        TPU_WORKER_HOSTNAMES="localhost",
        TPU_WORKER_ID="0",
        # Such programs can be written to the cache, but not be read back without a TPU.
        JAX_ENABLE_COMPILATION_CACHE="0",
    )
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr[-2000:]
    used = int(result.stdout.split("bytes")[-1])
    with capsys.disabled():
        print(f"\nrasterizer on a v5e: {used / 2**20:.0f} MiB of {HBM_BYTES / 2**20:.0f}")
    assert used < HBM_BYTES
