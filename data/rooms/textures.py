"""One parametric surface pattern, evaluated at metric surface coordinates (u, v).

A material is a vector of ``MATERIAL_SIZE`` numbers (the fields of ``Field``). Every surface is the
same sum of parts, each of which its parameters can switch off: a running-bond cell grid (planks,
bricks, tiles, book spines, stripes) with gaps, per-cell tone and hue; a motif in the middle of
each cell; isotropic noise; stretched grain; colored noise (pictures). So no branch depends on the
kind of material. Details finer than a pixel fade out (``footprint``), which keeps views consistent.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Field(enum.IntEnum):
    """Index of each material parameter. Lengths in meters, frequencies in 1/m."""

    A = 0  # main color (3)
    B = 3  # second color, mixed in by noise, checker and picture (3)
    C = 6  # color of gaps and motifs (3)
    CELL_U = 9
    CELL_V = 10
    STAGGER = 11  # shift of each next row, share of a cell
    GAP = 12  # half width of the gap between cells
    TONE = 13  # brightness change between cells
    HUE = 14  # color change between cells
    CHECKER = 15  # share of B on every second cell
    MOTIF = 16  # radius of the motif, share of half a cell
    NOISE_FREQ = 17
    NOISE = 18
    GRAIN_U = 19
    GRAIN_V = 20
    GRAIN = 21
    SPECKLE = 22
    RAINBOW = 23
    GLOSS = 24
    EMISSION = 25
    SEED = 26


MATERIAL_SIZE = 27
_INV_2_24 = 1.0 / 16777216.0


def hash_cells(i: Array, j: Array, seed: Array) -> Array:
    """Well mixed uint32 of two integer coordinates and a seed."""
    h = i.astype(jnp.uint32) * jnp.uint32(0x9E3779B1) ^ j.astype(jnp.uint32) * jnp.uint32(
        0x85EBCA77
    )
    h = (h ^ seed) * jnp.uint32(0xC2B2AE3D)
    h = (h ^ (h >> 15)) * jnp.uint32(0x27D4EB2F)
    return h ^ (h >> 13)


def unit(h: Array) -> Array:
    """Hash to [0, 1); 24 bits, by way of int32, which converts faster than uint32."""
    return (h >> 8).astype(jnp.int32).astype(jnp.float32) * _INV_2_24


def unit3(h: Array) -> tuple[Array, Array, Array]:
    """Hash to three numbers in [0, 1)."""
    return tuple(
        ((h >> shift) & 1023).astype(jnp.int32).astype(jnp.float32) / 1023.0
        for shift in (0, 10, 20)
    )


def _corners(u, v, seed):
    """Hashes at the four lattice corners around (u, v), and the smooth weights."""
    iu, iv = jnp.floor(u), jnp.floor(v)
    fu, fv = u - iu, v - iv
    i, j = iu.astype(jnp.int32), iv.astype(jnp.int32)
    su, sv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    hashes = [hash_cells(i + a, j + b, seed) for b in (0, 1) for a in (0, 1)]
    weights = [(1 - su) * (1 - sv), su * (1 - sv), (1 - su) * sv, su * sv]
    return hashes, weights


def value_noise(u: Array, v: Array, seed: Array) -> Array:
    """Smooth noise in [-1, 1] with one lattice cell per unit."""
    hashes, weights = _corners(u, v, seed)
    return 2 * sum(w * unit(h) for h, w in zip(hashes, weights, strict=True)) - 1


def color_noise(u: Array, v: Array, seed: Array) -> tuple[Array, Array, Array]:
    """Three smooth noises in [-1, 1] from one set of hashes."""
    hashes, weights = _corners(u, v, seed)
    corners = [unit3(h) for h in hashes]
    return tuple(
        2 * sum(w * c[i] for w, c in zip(weights, corners, strict=True)) - 1 for i in range(3)
    )


def fade(frequency: Array | float, footprint: Array) -> Array:
    """1 for details that pixels resolve, 0 beyond the Nyquist limit."""
    return jnp.clip(2.0 - 4.0 * frequency * footprint, 0.0, 1.0)


def fractal(u, v, frequency, footprint, seed, octaves):
    """Sum of value noises, each octave twice as fine and 0.6 times as strong."""

    def add(octave, total):
        f = frequency * 2.0**octave
        noise = value_noise(u * f, v * f, seed + octave.astype(jnp.uint32) * jnp.uint32(7919))
        return total + 0.6**octave * fade(f, footprint) * noise

    return jax.lax.fori_loop(0, octaves, add, jnp.zeros_like(u))


def _cells(u, v, m, footprint, seed):
    """Cell hash, parity and coverage by gap or motif of the running-bond grid."""
    cell_u, cell_v = m[Field.CELL_U], m[Field.CELL_V]
    row = jnp.floor(v / cell_v)
    along = u / cell_u + row * m[Field.STAGGER]
    column = jnp.floor(along)
    fu, fv = along - column, v / cell_v - row
    edge = jnp.minimum(jnp.minimum(fu, 1 - fu) * cell_u, jnp.minimum(fv, 1 - fv) * cell_v)
    gap = m[Field.GAP]
    line = jnp.clip(0.5 + (gap - edge) / footprint, 0, 1) * jnp.clip(2 * gap / footprint, 0, 1)
    smallest = jnp.minimum(cell_u, cell_v)
    du, dv = jnp.abs(fu - 0.5) * cell_u, jnp.abs(fv - 0.5) * cell_v
    # An octagon: between the diamond and the square of the same radius.
    away = 0.5 * (jnp.maximum(du, dv) + du + dv)
    radius = m[Field.MOTIF] * 0.5 * smallest
    motif = jnp.clip(0.5 + (radius - away) / footprint, 0, 1) * (radius > 0)
    motif = motif * fade(1 / smallest, footprint)
    column_i, row_i = column.astype(jnp.int32), row.astype(jnp.int32)
    parity = ((column_i + row_i) & 1).astype(jnp.float32)
    cell = hash_cells(column_i, row_i, seed + jnp.uint32(77))
    return cell, parity, jnp.maximum(line, motif), fade(1 / smallest, footprint)


def _brightness(u, v, m, footprint, seed, cell, noise, visible):
    """Factor on the color: cell tone, grain, speckle and a little of the noise."""
    # The grain is shifted per cell, so that planks are cut from different boards.
    shift = unit(cell) * 17.0
    grain_u, grain_v = m[Field.GRAIN_U], m[Field.GRAIN_V]
    coarse = value_noise(u * grain_u + shift, v * grain_v + shift, seed + jnp.uint32(11))
    fine = value_noise(u * grain_u * 3, v * grain_v * 3 + shift, seed + jnp.uint32(13))
    grain = fade(grain_v, footprint) * coarse + 0.6 * fade(3 * grain_v, footprint) * fine
    speckle = value_noise(u * 160, v * 160, seed + jnp.uint32(17)) * fade(160.0, footprint)
    tone = (unit(cell) - 0.5) * 2 * visible
    light = 1 + m[Field.TONE] * tone + m[Field.GRAIN] * grain
    return light + m[Field.SPECKLE] * speckle + 0.25 * m[Field.NOISE] * noise


def albedo(
    u: Array, v: Array, material: Sequence[Array], footprint: Array, face: Array
) -> tuple[Array, Array, Array]:
    """Linear-light surface color in [0, 1], one array per channel.

    u, v: surface coordinates in meters. material: one array per ``Field``. footprint: meters per
    pixel. face: number of the face, which moves the pattern. All arrays have the same shape.
    """
    m = material
    face = face.astype(jnp.uint32) * jnp.uint32(40503)
    seed = m[Field.SEED].astype(jnp.int32).astype(jnp.uint32) * jnp.uint32(2654435761) + face
    cell, parity, marks, visible = _cells(u, v, m, footprint, seed)
    noise = fractal(u, v, m[Field.NOISE_FREQ], footprint, seed, 5)
    mix = m[Field.NOISE] * noise + m[Field.CHECKER] * parity * visible
    mix = jnp.clip(mix, 0.0, 1.0)
    light = _brightness(u, v, m, footprint, seed, cell, noise, visible)
    coarse = color_noise(u * 5, v * 5, seed + jnp.uint32(19))
    fine = color_noise(u * 17, v * 17, seed + jnp.uint32(23))
    hues = unit3(cell)
    channels = []
    for i in range(3):
        base = m[Field.A + i] * (1 - mix) + m[Field.B + i] * mix
        base = base * light + (hues[i] - 0.5) * (m[Field.HUE] * visible)
        base = base + 0.3 * m[Field.RAINBOW] * (coarse[i] + 0.6 * fine[i])
        channels.append(jnp.clip(base * (1 - marks) + m[Field.C + i] * marks, 0.01, 0.95))
    return tuple(channels)


def hsv_to_rgb(hsv: Float[Array, "*grid 3"]) -> Float[Array, "*grid 3"]:
    """Colors from hue, saturation, value, all in [0, 1] (hue wraps)."""
    offset = jnp.array([0.0, 2.0 / 3.0, 1.0 / 3.0]).reshape((1,) * (hsv.ndim - 1) + (3,))
    ramp = jnp.abs(((hsv[..., :1] + offset) % 1.0) * 6 - 3) - 1
    return hsv[..., 2:] * (1 - hsv[..., 1:2] * (1 - jnp.clip(ramp, 0, 1)))
