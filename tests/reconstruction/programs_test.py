"""Kept programs: the same numbers without tracing; what does not fit is traced anew."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.reconstruction import network, programs, traced
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.storage import user_cache
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import shapes

CONFIG = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True)
PIXELS = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    tree = abstract_variables(CONFIG)
    variables = jax.tree.map(lambda x: 0.2 * rng.normal(size=x.shape).astype(np.float32), tree)
    return Model(CONFIG, variables, (16, 24), "test")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """A cache of this test's own, switched on; the process knows no program yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    user_cache.switch_on()
    programs.program.cache_clear()
    yield tmp_path / "mvdust3r_jax" / programs.TRACED
    programs.program.cache_clear()


def answer(model, reference=0):
    """The program's answer, as a process that has not asked for it before gets it."""
    programs.program.cache_clear()
    program = network.compiled_program(model, PIXELS.shape, 2)
    return jax.device_get(program(model.variables, PIXELS, np.int32(reference)))


def no_tracing(monkeypatch):
    monkeypatch.setattr(traced, "forward_arrays", None)


def test_a_kept_program_gives_the_same_bits(model, cache, monkeypatch):
    """As traced without any cache, as traced and kept, and as loaded, without tracing."""
    user_cache.switch_on(False)
    plain = answer(model)
    user_cache.switch_on()
    first = answer(model)
    assert len(list(cache.iterdir())) == 1
    no_tracing(monkeypatch)
    loaded = answer(model)
    for other in (first, loaded):
        assert plain.keys() == other.keys()
        jax.tree.map(np.testing.assert_array_equal, plain, other)


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_damaged_and_foreign_programs_are_replaced(model, cache, monkeypatch, content):
    """Traced anew, with the same answer; from then on the entry is good again."""
    wanted = answer(model)
    (entry,) = cache.iterdir()
    if content is None:  # a program of other shapes, whole in itself
        network.compiled_program(model, (2, 16, 24, 3), 2)
        (other,) = (path for path in cache.iterdir() if path != entry)
        other.replace(entry)
    else:
        user_cache.write(programs.TRACED, entry.name, content)
    jax.tree.map(np.testing.assert_array_equal, answer(model), wanted)
    no_tracing(monkeypatch)
    jax.tree.map(np.testing.assert_array_equal, answer(model), wanted)


def test_another_source_or_setting_is_another_program(model, cache, monkeypatch):
    """What was traced from other code, or under another setting of JAX, is not taken."""
    answer(model)
    monkeypatch.setattr(user_cache, "source_digest", lambda *rooms: "another")
    answer(model)
    with jax.default_matmul_precision("bfloat16"):
        answer(model)
    assert len(list(cache.iterdir())) == 3


def test_any_view_can_be_the_reference(model, cache):
    """It is the same as giving that photograph first and turning the others behind it."""
    got = answer(model, reference=2)
    turned = network.compiled_program(model, PIXELS.shape, 2)(
        model.variables, PIXELS[[2, 0, 1]], np.int32(0)
    )
    np.testing.assert_allclose(got["points"], turned["points"][np.array([1, 2, 0])], rtol=1e-4)


def test_shapes_are_kept(cache, monkeypatch):
    """Those of the initialization, and known again without it; nonsense in the file is passed."""
    tree = abstract_variables(CONFIG)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    wanted = {"/".join(k.key for k in path): x.shape for path, x in leaves}
    for content in (None, b"[1]", b'{"a": 1}'):
        shapes.variable_shapes.cache_clear()
        for entry in (cache.parent / "shapes").glob("*") if content else ():
            user_cache.write("shapes", entry.name, content)
        assert shapes.variable_shapes(CONFIG) == wanted
    shapes.variable_shapes.cache_clear()
    monkeypatch.setattr("mvdust3r_jax.models.mvdust3r.abstract_variables", None)
    assert shapes.variable_shapes(CONFIG) == wanted


SECOND_PROCESS = """
import sys
from mvdust3r_jax import load_model, reconstruct
from mvdust3r_jax.reconstruction.programs import keep_programs
import numpy as np
keep_programs()
pixels = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), np.uint8)
scene = reconstruct(list(pixels), load_model(sys.argv[1]), num_refs=2)
print([name for name in ("flax", "scipy", "orbax") if name in sys.modules])
"""


def test_a_second_process_needs_no_network(model, cache, tmp_path):
    """With programs kept, a reconstruction imports neither Flax nor SciPy."""
    weights = tmp_path / "w.safetensors"
    weight_files.save_weights(weights, model.variables, CONFIG, image_size=(16, 24))
    command = [sys.executable, "-c", SECOND_PROCESS, str(weights)]
    said = [
        subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said[0] != said[1] == "[]\n"


WITH_LAPACK = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from mvdust3r_jax.reconstruction.programs import Leaf, keep_programs, program
keep_programs()
shapes = [Leaf(shape, "float32") for shape in [(9, 3), (9, 3), (9,)]]
cameras = [Leaf(shape, "float32") for shape in [(2, 8, 8, 3), (2, 8, 8), (2,), (2, 2)]]
points = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
with ThreadPoolExecutor(2) as threads:
    other = threads.submit(program, "found_cameras", (), (*cameras, Leaf((), "int32")))
    joining = threads.submit(program, "robust_similarity", (), tuple(shapes))
print(joining.result()(points, 2 * points, np.ones(9, np.float32))["scale"].round(3))
"""


def test_programs_that_call_lapack_find_it(cache):
    """Also where they are kept, and others that do without it are loaded beside them."""
    command, root = [sys.executable, "-c", WITH_LAPACK], Path(__file__).parents[2]
    for _ in range(2):
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        assert done.stdout == "2.0\n"
