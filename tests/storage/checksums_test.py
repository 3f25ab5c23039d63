"""Checksums of arrays: the same wherever an array lies, and another one after any damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mvdust3r_jax.storage.checksums import checksums, differing

TYPES = ["float32", "bfloat16", "int8", "int32", "uint32", "bool"]


def noise(dtype, shape=(16, 24)):
    """Entries whose bits are arbitrary, infinities and NaN included."""
    dtype = jnp.dtype(dtype)
    rng = np.random.default_rng(0)
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    bits = rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return bits.view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", TYPES)
def test_sum_is_that_of_the_bits(dtype):
    """Against a loop over the bytes of the entries."""
    x = noise(dtype)
    entries = [int.from_bytes(entry.tobytes(), "little") for entry in x.reshape(-1)]
    assert checksums({"a": x}) == {"['a']": sum(entries) % 2**32}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("spec", [(), ("i",), (None, "i"), ("i", "j")])
def test_cut_arrays_have_the_sums_of_whole_ones(dtype, spec):
    """Over eight chips, along any axis."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("i", "j"))
    x = noise(dtype)
    cut = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
    assert checksums([cut, x, x[:0]]) == checksums([x, x, x[:0]])


def test_arrays_that_are_not_contiguous_and_of_eight_bytes_have_sums():
    """A transposed one has that of its entries, a float64 that of its halves."""
    x = noise("float32")
    assert checksums(x.T) == checksums(x)
    y = noise("float64")
    assert checksums(y) == checksums(y.view(np.uint32))


@pytest.mark.parametrize("dtype", TYPES[:-1])
def test_any_flipped_bit_is_told(dtype):
    """Of each bit of an entry, and of a part that reads as zeros."""
    x = noise(dtype)
    kept = checksums({"a": x, "b": x})
    for bit in range(8 * x.dtype.itemsize):
        damaged = x.copy()
        damaged.reshape(-1).view(np.uint8)[40 + bit // 8] ^= 1 << bit % 8
        found = checksums({"a": x, "b": damaged})
        assert differing(kept, found) == "['b']: not what was written there"
    assert differing(kept, checksums({"a": np.where(np.arange(24) < 12, x, 0).astype(dtype)}))


def test_arrays_without_a_sum_are_not_judged():
    """What was written before sums were, and many damaged ones are counted."""
    assert not differing({}, {"a": 1})
    found = dict.fromkeys("abcde", 1)
    told = differing(dict.fromkeys("abcde", 2), found)
    assert told == "a, b, c and 2 more: not what was written there"
