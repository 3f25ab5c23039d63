"""No wasted work: the traced network does exactly the operations of the closed formula."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import pytest

from mvdust3r_jax import VARIANTS, ModelConfig, MVDust3r
from mvdust3r_jax.models.flops import across_views_flops, forward_flops, forward_flops_on_cpu
from mvdust3r_jax.models.mvdust3r import abstract_variables

CONFIG = ModelConfig(32, 3, 2, 32, 4, 2, patch=8, skip=False, gaussian_hidden=16, cross_ref=True)


def product_flops(eqn) -> int:
    """Operations of one matrix product or convolution."""
    out = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * out * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
    return 2 * _valid_taps(eqn)


def _valid_taps(eqn) -> int:
    """Multiply-accumulates of a convolution, without those with padding."""
    numbers = eqn.params["dimension_numbers"]
    (x, kernel), out = (v.aval.shape for v in eqn.invars), eqn.outvars[0].aval.shape
    total = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for axis in range(2):
        size, taps, results = (
            shape[spec[axis + 2]]
            for shape, spec in (
                (x, numbers.lhs_spec),
                (kernel, numbers.rhs_spec),
                (out, numbers.out_spec),
            )
        )
        stride, low = eqn.params["window_strides"][axis], eqn.params["padding"][axis][0]
        total *= sum(0 <= o * stride + t - low < size for o in range(results) for t in range(taps))
    return total


def count(jaxpr, alternative: int = -1) -> int:
    """All products, those in loops as often as they run; of alternatives the last (the default)."""
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in ("dot_general", "conv_general_dilated"):
            total += product_flops(eqn)
        elif name == "scan":
            total += eqn.params["length"] * count(eqn.params["jaxpr"].jaxpr, alternative)
        elif name == "cond":
            total += count(eqn.params["branches"][alternative].jaxpr, alternative)
        elif name == "while":
            raise AssertionError("a loop of unknown length")
        else:
            inner = (getattr(p, "jaxpr", p) for p in eqn.params.values())
            total += sum(count(j, alternative) for j in inner if hasattr(j, "eqns"))
    return total


def traced_flops(config, views, num_refs, height, width, all_paths, alternative=-1):
    images = jax.ShapeDtypeStruct((1, views, height, width, 3), jnp.float32)
    model = MVDust3r(config)
    apply = functools.partial(model.apply, num_refs=num_refs, all_paths=all_paths)
    return count(jax.make_jaxpr(apply)(abstract_variables(config), images).jaxpr, alternative)


CASES = {
    "plain": dict(cross_ref=False),
    "plus": {},
    "skip": dict(skip=True),
    "sh": dict(sh_degree=2),
    "conv": dict(cross_ref=False, head="conv", conv_width=6),
    "dpt": dict(cross_ref=False, head="dpt", patch=16, gaussians=False),
}


# Of a view, beside the formula: the conv head's matrix products take padding zeros along. Two 3x3
# convolutions on 8 x 12 cells; of the taps along an axis two are beyond the border.
PADDING = {"conv": 2 * 2 * ((3 * 8) * (3 * 12) - (3 * 8 - 2) * (3 * 12 - 2)) * 6**2}


# Heads of each kind once, on several paths; both decoders on all kinds of paths.
PATHS = [(2, 1, True), (4, 3, False), (5, 5, True)]
ONCE = [(case, 4, 3, True) for case in CASES]
ALL = [(case, *paths) for case in ("plain", "plus") for paths in PATHS]


@pytest.mark.parametrize(("case", "views", "num_refs", "all_paths"), ONCE + ALL)
def test_traced_operations_are_the_formula(case, views, num_refs, all_paths):
    """Every product that is traced is in the formula, and none twice."""
    config = dataclasses.replace(CONFIG, **CASES[case])
    want = forward_flops(
        config, views=views, num_refs=num_refs, height=32, width=48, all_paths=all_paths
    )
    padding = PADDING.get(case, 0) * views * num_refs
    assert traced_flops(config, views, num_refs, 32, 48, all_paths) == want["total"] + padding


def test_operations_on_cpus_are_those_of_winograds_algorithm():
    """Traced as CPUs compute it, less the transform of two 5x5 kernels of 8 x 8 channels a view."""
    config = dataclasses.replace(CONFIG, skip=True, skip_width=8, cross_ref=False)
    size = dict(views=2, num_refs=1, height=40, width=48)
    traced = traced_flops(config, *size.values(), False, alternative=0)
    kernels = 2 * 2 * 2 * (8 * 5 * 5 + 8 * 8 * 5) * 8 * 8
    assert traced - kernels == forward_flops_on_cpu(config, **size)["total"]


@pytest.mark.parametrize(("views", "limit"), [(4, 3.6e12), (24, 24e12)])
def test_full_size_budget(views, limit):
    """MV-DUSt3R+ at 224: the trace too stays below the budget (the release: 8e12 at 4 views)."""
    config = VARIANTS["mvdp"]
    traced = traced_flops(config, views, 4, 224, 224, False)
    formula = forward_flops(config, views=views, num_refs=4, height=224, width=224)["total"]
    assert traced == formula < limit


def test_compiled_operations_are_the_formula():
    """XLA's own count of the unrolled program: products, and elementwise work of a few percent."""
    config = ModelConfig(
        128, 2, 1, 128, 2, 1, skip=False, gaussians=False, cross_ref=True, unroll=True
    )
    images = jnp.zeros((1, 2, 32, 32, 3))
    variables = jax.tree.map(lambda s: jnp.zeros(s.shape), abstract_variables(config))
    apply = jax.jit(lambda v, x: MVDust3r(config).apply(v, x, num_refs=1))
    xla = apply.lower(variables, images).compile().cost_analysis()["flops"]
    want = forward_flops(config, views=2, num_refs=1, height=32, width=32)["total"]
    assert want <= xla <= 1.1 * want


@pytest.mark.parametrize("name", ["mvd", "mvdp"])
def test_only_attention_across_views_grows_with_their_square(name):
    """Second differences over V: all else is linear in the number of views."""
    config = VARIANTS[name]

    def bend(of) -> int:
        return of(7) - 2 * of(6) + of(5)

    def total(views: int) -> int:
        return forward_flops(config, views=views, num_refs=4, height=224, width=224)["total"]

    def across(views: int) -> int:
        return across_views_flops(config, views=views, num_refs=4, tokens=14 * 14)

    assert bend(total) == bend(across) > 0
