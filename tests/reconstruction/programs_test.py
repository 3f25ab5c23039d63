"""Kept programs: the same numbers without tracing; what does not fit is traced anew."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import VARIANTS
from mvdust3r_jax.models.flops import forward_flops
from mvdust3r_jax.models.mvdust3r import abstract_variables
from mvdust3r_jax.reconstruction import machine, network, programs, traced
from mvdust3r_jax.reconstruction.programs import Leaf
from mvdust3r_jax.storage import user_cache
from mvdust3r_jax.weights import files as weight_files
from mvdust3r_jax.weights import shapes
from tests.reconstruction.random_model import CONFIG

PIXELS = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), np.uint8)


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


def joining(count=9):
    """A program that is quick to trace, and its answer."""
    programs.program.cache_clear()
    shapes = tuple(Leaf(shape, "float32") for shape in [(count, 3), (count, 3), (count,)])
    points = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    program = programs.program("window_similarity", (), shapes)
    return jax.device_get(program(points, 2 * points[::-1], np.ones(count, np.float32)))


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_damaged_and_foreign_programs_are_replaced(cache, monkeypatch, content):
    """Traced anew, with the same answer; from then on the entry is good again."""
    wanted = joining()
    (entry,) = cache.iterdir()
    if content is None:  # a program of other shapes, whole in itself
        joining(count=5)
        (other,) = (path for path in cache.iterdir() if path != entry)
        other.replace(entry)
    else:
        user_cache.write(programs.TRACED, entry.name, content)
    jax.tree.map(np.testing.assert_array_equal, joining(), wanted)
    monkeypatch.setattr(traced, "window_similarity", None)
    jax.tree.map(np.testing.assert_array_equal, joining(), wanted)


def test_another_source_or_setting_is_another_program(cache, monkeypatch):
    """What was traced from other code, or under another setting of JAX, is not taken."""
    joining()
    monkeypatch.setattr(user_cache, "source_digest", lambda *rooms: "another")
    joining()
    with jax.default_matmul_precision("bfloat16"):
        joining()
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
from mvdust3r_jax.reconstruction.programs import Leaf, keep_programs, program
import numpy as np
keep_programs()
pixels = np.random.default_rng(1).integers(0, 255, (3, 16, 24, 3), np.uint8)
scene = reconstruct(list(pixels), load_model(sys.argv[1]), num_refs=2)
print([name for name in ("flax", "scipy", "orbax") if name in sys.modules])
shapes = tuple(Leaf(shape, "float32") for shape in [(9, 3), (9, 3), (9,)])
points = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
joining = program("window_similarity", (), shapes)(points, 2 * points, np.ones(9, np.float32))
print(joining["scale"].round(3))
"""


def test_a_second_process_needs_no_network(model, cache, tmp_path):
    """With programs kept, neither Flax nor SciPy is imported; one that calls LAPACK finds it."""
    weights = tmp_path / "w.safetensors"
    weight_files.save_weights(weights, model.variables, CONFIG, image_size=(16, 24))
    command = [sys.executable, "-c", SECOND_PROCESS, str(weights)]
    root = Path(__file__).parents[2]
    first, second = (
        subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert "flax" in first and second == "[]\n2.0\n"


def test_keys_follow_every_module_that_is_traced():
    """What `traced` imports of this package stands in the key, but for what only keeps files."""
    code = (
        "import sys\n"
        "from mvdust3r_jax.reconstruction import traced\n"
        "print(*(m.split('.')[1] for m in sys.modules if m.startswith('mvdust3r_jax.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known = {name.removesuffix(".py") for name in programs._TRACED_FROM}
    assert "chunked" in done.stdout.split()
    assert set(done.stdout.split()) - {"storage"} <= known


def test_programs_of_little_work_are_compiled_with_little_effort(monkeypatch):
    """The small network of eight photographs is one, a published one of two is not."""
    monkeypatch.setattr(programs, "_QUICK_OPTIONS", ({"quick": True},))  # none in tests (conftest)
    flops = [
        forward_flops(VARIANTS[name], views=views, num_refs=1, height=size, width=size)["total"]
        for name, views, size in (("room_mvd", 8, 128), ("mvd", 2, 224))
    ]
    told, compile_it = [], jax.stages.Lowered.compile

    def compiled(self, options=None):
        told.append(options)
        return compile_it(self)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    for count in flops:
        programs._compiled(jax.jit(jnp.sin).lower(1.0), count)
    assert told == [{"quick": True}, None]


@pytest.mark.parametrize("cross_ref", [False, True])
@pytest.mark.parametrize("reference", ["first", "middle", "auto"])
def test_networks_say_how_much_they_compute(model, monkeypatch, reference, cross_ref):
    """Else a large one would be compiled with little effort."""
    told = []

    def program(name, facts, shapes, flops=0.0):
        told.append(flops)
        return lambda *arrays: {}

    monkeypatch.setattr(network, "program", program)
    one = dataclasses.replace(model, config=dataclasses.replace(CONFIG, cross_ref=cross_ref))
    network.asking(one, PIXELS.shape, 2, reference)
    assert told and all(flops > 0 for flops in told)


@pytest.mark.parametrize("known", [(), ({"xla_backend_optimization_level": 1},)])
def test_an_xla_without_the_options_compiles_all_the_same(monkeypatch, known):
    """By those that it knows, or by none."""
    monkeypatch.setattr(programs, "_QUICK_OPTIONS", ({"xla_no_such_option": False}, *known))
    lowered = jax.jit(jnp.sin).lower(1.0)
    tried, compile_it = [], jax.stages.Lowered.compile

    def compiled(self, options=None):
        tried.append(options)
        return compile_it(self, options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    for flops in (1.0, 1e15):
        assert programs._compiled(lowered, flops)(1.0) == jnp.sin(1.0)
    assert tried == [{"xla_no_such_option": False}, known[0] if known else None, None]


@pytest.mark.parametrize("why", ["no home", "not mine", "not writable"])
def test_where_programs_cannot_be_kept_it_is_said(cache, monkeypatch, why):
    """No home, a folder of the group, or one that cannot be made: a line, and nothing breaks."""
    before = jax.config.jax_compilation_cache_dir
    place = cache.parent / programs.COMPILED
    if why == "no home":
        monkeypatch.setattr(user_cache, "base_folder", no_home)
    elif why == "not mine":
        (place / machine.machine_key()).mkdir(parents=True, mode=0o700)
        (place / machine.machine_key()).chmod(0o775)
    else:
        place.parent.mkdir(parents=True)
        place.write_text("a file")
    said = []
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        programs.keep_programs(said.append)
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert len(said) == 1 and said[0].startswith("compiled programs are not kept: ")


def no_home():
    """What `Path.home` does for a user whom the system does not know."""
    raise RuntimeError("Could not determine home directory.")
