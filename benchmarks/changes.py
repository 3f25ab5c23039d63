"""Before and after: the forward pass with one of its savings undone at a time.

    python -m benchmarks.changes --views 4

Full-size MV-DUSt3R+, R = min(4, V), random weights. Every row compiles the network anew with one
change taken back, and is timed beside the program as it is, one after the other in the same run,
so that the ratio says more than the seconds on a shared machine.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks.clock import clock, random_variables
from benchmarks.machine import write_results
from mvdust3r_jax import VARIANTS, MVDust3r
from mvdust3r_jax.models import attention, heads, layers

NOTHING: tuple = ()


def attention_all_at_once():
    """All views' and heads' scores in memory together."""
    return (mock.patch.object(attention, "CACHE_BYTES", 2**50),)


def direct_convolutions():
    """XLA's own 5x5 convolutions instead of Winograd's algorithm."""
    return (mock.patch.object(heads, "_wide_conv", None),)


def own_view_masked():
    """Scores of the own view are computed and masked, as the published code does."""

    def masked(q, k, v):
        queries, memory, tokens = q.shape[-4], k.shape[-4], q.shape[-3]
        own = jnp.arange(queries) + memory - queries
        hidden = jnp.repeat(own[:, None] == jnp.arange(memory), tokens, axis=1)

        def flat(x):
            return x.reshape(*x.shape[:-4], 1, -1, *x.shape[-2:])

        keys, values = flat(k), flat(v)

        def one_view(args):
            query, hide = args
            scores = jnp.einsum(
                "...qhd,...khd->...hqk", query * q.shape[-1] ** -0.5, keys[..., 0, :, :, :]
            )
            weights = jax.nn.softmax(jnp.where(hide, -jnp.inf, scores), axis=-1)
            return jnp.einsum("...hqk,...khd->...qhd", weights, values[..., 0, :, :, :])

        out = jax.lax.map(one_view, (jnp.moveaxis(q, -4, 0), hidden))
        return jnp.moveaxis(out, 0, -4)

    return (mock.patch.object(layers, "attend_other_views", masked),)


CHANGES: dict[str, tuple[Callable[[], tuple], bool, str]] = {
    "attention in cache-sized groups": (
        attention_all_at_once,
        False,
        "scores of a group of views and heads stay in the cache",
    ),
    "own view left out": (
        own_view_masked,
        False,
        "no score is computed to be masked; the rest as in groups of one view",
    ),
    "Winograd convolutions": (
        direct_convolutions,
        False,
        "a fifth of the skip CNN's products, exact enough behind its factor of 1e-4",
    ),
    "path 0 alone at the end": (
        lambda: NOTHING,
        True,
        "heads and the last cross-reference block for the path that is returned",
    ),
}


@contextlib.contextmanager
def undone(patches: tuple) -> Iterator[None]:
    """The code without a change; programs of the code as it is are forgotten."""
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        jax.clear_caches()
        yield
    jax.clear_caches()


def measure(views: int, repeat: int) -> list[dict]:
    """One row per change."""
    config = VARIANTS["mvdp"]
    variables = random_variables(config)
    images = jnp.zeros((1, views, 224, 224, 3))
    model, num_refs = MVDust3r(config), min(4, views)

    def compiled(all_paths: bool):
        def forward(v, x):
            prediction = model.apply(v, x, num_refs=num_refs, all_paths=all_paths)
            return jax.tree.map(lambda y: y[:, 0], prediction) if all_paths else prediction

        return jax.jit(forward).lower(variables, images).compile()

    timed = functools.partial(clock, repeat=repeat)
    now, rows = compiled(False), []
    for name, (patches, all_paths, reason) in CHANGES.items():
        with undone(patches()):
            before = compiled(all_paths)
        times = timed(before, variables, images), timed(now, variables, images)
        row = {"change": name, "reason": reason, "before": times[0], "after": times[1]}
        row["ratio"] = {key: times[0][key] / times[1][key] for key in times[0]}
        print(f"{name:34s} {times[0]['s']:7.2f} s {times[1]['s']:7.2f} s  {row['ratio']}")
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=2)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    write_results("changes", {"views": args.views, "rows": measure(args.views, args.repeat)})


if __name__ == "__main__":
    main()
