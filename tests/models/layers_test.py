"""Rotary positions, attention across views, and the blocks made of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mvdust3r_jax.models import attention, decoder, layers, linear, rope
from tests.compiled import compiled, normal

TABLE = rope.rope_table(2, 3, 8)


def rotated(x, table):
    return np.asarray(jax.jit(lambda x: rope.rotate(x, table))(x))


def test_rope_depends_on_differences_only():
    """Scores between two patches stay when both move by the same rows and columns."""
    q, k = normal(0, 1, 1, 8), normal(1, 1, 1, 8)
    cos, sin = rope.rope_table(6, 7, 8)

    def score(a, b):
        at = [row * 7 + column for row, column in (a, b)]
        turned = [
            rotated(x, (cos[i : i + 1], sin[i : i + 1])) for x, i in zip((q, k), at, strict=True)
        ]
        return (turned[0] * turned[1]).sum()

    np.testing.assert_allclose(score((0, 1), (2, 3)), score((3, 4), (5, 6)), atol=1e-5)
    assert abs(score((0, 1), (2, 3)) - score((0, 1), (3, 2))) > 1e-3


def test_rope_is_a_rotation():
    """Lengths stay, and the first patch is not turned."""
    x = np.asarray(normal(0, 2, 6, 3, 8))
    turned = rotated(x, TABLE)
    np.testing.assert_allclose((turned**2).sum(-1), (x**2).sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])


def test_rope_by_hand():
    """Row angles turn the first half in pairs (i, i + 2); base 100."""
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 8)
    cos, sin = rope.rope_table(3, 1, 8)
    turned = rotated(x, (cos[2:], sin[2:]))[0, 0]
    for i, frequency in ((0, 1.0), (1, 0.1)):
        a, b, angle = x[0, 0, i], x[0, 0, i + 2], 2 * frequency
        np.testing.assert_allclose(turned[i], a * np.cos(angle) - b * np.sin(angle), rtol=1e-5)
        np.testing.assert_allclose(turned[i + 2], b * np.cos(angle) + a * np.sin(angle), rtol=1e-5)
    np.testing.assert_array_equal(turned[4:], x[0, 0, 4:])


def slow_attention(q, k, v):
    """One query, one head at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros(q.shape)
    for i, h in np.ndindex(q.shape[:2]):
        weights = np.exp(k[:, h] @ q[i, h] / np.sqrt(q.shape[-1]))
        out[i, h] = weights @ v[:, h] / weights.sum()
    return out


@pytest.mark.parametrize("views_at_once", [0.1, 0.5, 1, 3, 100])
@pytest.mark.parametrize("queries", [3, 4])
def test_other_views_are_attended(monkeypatch, queries, views_at_once):
    """Each view against all tokens but its own, whether the cache takes a part of one or many."""
    q = normal(0, 2, queries, 5, 2, 8)
    k, v = normal(1, 2, 4, 5, 2, 8), normal(2, 2, 4, 5, 2, 8)
    of_one_view = 4 * 5 * (3 * 5) * 2
    monkeypatch.setattr(attention, "SMALL_HEAD_BYTES", 0)
    monkeypatch.setattr(attention, "CACHE_BYTES", int(of_one_view * views_at_once))
    got = np.asarray(jax.jit(lambda *x: attention.attend_other_views(*x))(q, k, v))
    for b, i in np.ndindex(2, queries):
        others = [m for m in range(4) if m != i + 4 - queries]
        memory = [np.asarray(x)[b, others].reshape(-1, 2, 8) for x in (k, v)]
        np.testing.assert_allclose(
            got[b, i], slow_attention(np.asarray(q)[b, i], *memory), atol=1e-5
        )


@pytest.mark.parametrize("heads_at_once", [0.2, 1, 4, 6])
def test_heads_are_independent(monkeypatch, heads_at_once):
    """Whether the cache takes a part of a head or several, attention is that of one at a time."""
    q, k, v = (np.asarray(normal(i, 3, n, 6, 8)) for i, n in enumerate((5, 7, 7)))
    monkeypatch.setattr(attention, "SMALL_HEAD_BYTES", 0)
    monkeypatch.setattr(attention, "CACHE_BYTES", int(4 * 5 * 7 * heads_at_once))
    got = np.asarray(jax.jit(lambda *x: attention.attend_each(*x))(q, k, v))
    for b in range(3):
        np.testing.assert_allclose(got[b], slow_attention(q[b], k[b], v[b]), atol=1e-5)


def test_scores_of_bfloat16_are_float32():
    """Where all are about 256, at which bfloat16 goes in steps of 2, weights are still right."""
    q, k, v = (np.array(normal(i, 7, 1, 16)) for i in range(3))
    q[..., 0] = k[..., 0] = 32
    q, k, v = (x.astype(jnp.bfloat16) for x in (q, k, v))
    got = compiled(attention.attend)(*(x[:, 0] for x in (q, k, v)))
    # Weights and result are rounded to bfloat16, to 0.4 %.
    np.testing.assert_allclose(np.float32(got), slow_attention(q, k, v)[:, 0], atol=0.02)


def test_own_tokens_get_no_cross_attention_gradient():
    """What a view draws from others has exactly zero gradient to its own memory."""
    q, k, v = normal(0, 4, 5, 2, 8), normal(1, 4, 5, 2, 8), normal(2, 4, 5, 2, 8)

    def second_view(k, v):
        return (attention.attend_other_views(q[None], k[None], v[None])[0, 1] ** 2).sum()

    for grad in map(np.asarray, jax.jit(jax.grad(second_view, argnums=(0, 1)))(k, v)):
        assert not np.any(grad[1])
        assert all(np.any(grad[i]) for i in (0, 2, 3))


@pytest.mark.parametrize("paths", [1, 3, 4])
def test_reference_and_sources_come_apart_and_together(paths):
    """Splitting picks view r of path r; joining undoes it."""
    x = np.asarray(normal(0, 2, paths, 4, 5))
    ref, src = map(np.asarray, compiled(decoder.split_reference)(x))
    for r in range(paths):
        np.testing.assert_array_equal(ref[:, r, 0], x[:, r, r])
        np.testing.assert_array_equal(src[:, r], np.delete(x[:, r], r, axis=1))
    np.testing.assert_array_equal(compiled(decoder.join_reference)(ref, src), x)


def test_block_without_memory_leaves_cross_attention_out():
    """With nobody else to look at, a block is self-attention and MLP; all stays finite."""
    block = layers.DecoderBlock(2, "float32")
    x = normal(0, 1, 1, 6, 16)
    params = jax.jit(lambda x: block.init(jax.random.key(0), x, x, TABLE))(x)
    alone = jax.jit(lambda x: block.apply(params, x, x, TABLE, True))(x)
    empty = jax.jit(lambda x: block.apply(params, x, x[:, :0], TABLE))(x)
    np.testing.assert_array_equal(alone, empty)
    assert np.all(np.isfinite(alone))


def test_scan_stops_early():
    """The first layers only, by index, are the first layers of the stack."""
    params = normal(0, 5, 3)

    def body(x, p):
        return jnp.tanh(x + p), x

    scan, start = compiled(layers.scan_layers), np.zeros(3, np.float32)
    some, _ = scan(body, start, params, length=4)
    sliced, _ = scan(body, start, np.asarray(params)[:4], length=4)
    np.testing.assert_array_equal(some, sliced)


def test_gradients_of_the_token_product_are_those_of_autodiff():
    """With respect to tokens and kernel, over several batch axes."""
    x, kernel, weights = normal(0, 2, 3, 5, 8), normal(1, 8, 4), normal(2, 2, 3, 5, 4)

    def gradients(product):
        return jax.jit(jax.grad(lambda x, k: (weights * product(x, k)).sum(), (0, 1)))(x, kernel)

    for own, plain in zip(gradients(linear.token_product), gradients(jnp.matmul), strict=True):
        np.testing.assert_allclose(own, plain, rtol=1e-5, atol=1e-5)


def test_gradients_of_biases_hold_in_bfloat16_whatever_the_number_of_tokens():
    """A running sum in that type would stand still at a seventh of this one."""
    layer = linear.dense(4, "bfloat16", "layer")
    x = jnp.zeros((16, 4, 8, 196, 2))
    params = layer.init(jax.random.key(0), x[0])

    def loss(params):
        return layer.apply(params, x).astype(jnp.float32).sum() / 2

    bias = jax.jit(jax.grad(loss))(params)["params"]["bias"]
    np.testing.assert_allclose(bias, x[..., 0].size / 2, rtol=1e-2)


def test_first_weights_are_those_of_the_library():
    """Names, shapes and values as `nn.Dense` draws them."""
    x = normal(0, 3, 8)
    own, plain = linear.Dense(4, "float32"), nn.Dense(4, kernel_init=linear.xavier)
    own, plain = (compiled(layer.init)(jax.random.key(1), x) for layer in (own, plain))
    jax.tree.map(np.testing.assert_array_equal, own, plain)


@pytest.mark.parametrize("gelu", ["erf", "tanh"])
def test_gelu_is_the_one_asked_for(gelu):
    """An MLP of identity matrices shows its activation."""
    mlp = layers.Mlp("float32", gelu=gelu)
    x = np.linspace(-3, 3, 8, dtype=np.float32)[None]
    eye = np.tile(np.eye(8, dtype=np.float32), (1, 4))
    kernels = {"fc1": {"kernel": eye, "bias": np.zeros(32, np.float32)}}
    kernels["fc2"] = {"kernel": eye.T / 4, "bias": np.zeros(8, np.float32)}
    exact = 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    approximate = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    expected = exact if gelu == "erf" else approximate
    np.testing.assert_allclose(compiled(mlp.apply)({"params": kernels}, x), expected, atol=1e-6)


def test_small_scores_are_taken_at_once_and_give_the_same(monkeypatch):
    """Attention to other views, all at once or view by view."""
    q, k, v = normal(0, 2, 2, 6, 2, 8), normal(1, 2, 3, 6, 2, 8), normal(2, 2, 3, 6, 2, 8)
    at_once = jax.jit(lambda *x: attention.attend_other_views(*x))(q, k, v)
    monkeypatch.setattr(attention, "SMALL_HEAD_BYTES", 0)
    monkeypatch.setattr(attention, "CACHE_BYTES", 300)
    apart = jax.jit(lambda *x: attention.attend_other_views(*x))(q, k, v)
    np.testing.assert_allclose(at_once, apart, atol=1e-6)
