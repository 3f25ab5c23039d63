"""How much a compiled program sends over the chips' interconnect, read from its text."""

from __future__ import annotations

import functools
import re

import numpy as np

_SIZES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "f16": 2, "pred": 1, "s8": 1, "u8": 1}
_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)


def _bytes_of(line: str) -> float:
    """Bytes that one device sends for the collective on a line of a program, 0 if it has none.

    One collective may take many arrays. A started one lists its operands and then its results, the
    others results alone, of which a reduce-scatter's are parts.
    """
    match = _COLLECTIVE.search(line)
    if not match:
        return 0.0
    sizes = [
        _SIZES.get(kind, 0) * np.prod([int(d) for d in dims.split(",") if d])
        for kind, dims in re.findall(r"(\w+)\[([\d,]*)\]", match[1])
    ]
    half = len(sizes) // 2
    total = max(sum(sizes[:half]), sum(sizes[half:])) if match[3] else sum(sizes)
    if match[2] == "reduce-scatter" and not match[3]:
        group = re.search(r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\])", line)
        total *= group[1].count(",") + 1 if group[1] else int(group[2])
    return total * (2 if match[2] == "all-reduce" else 1)


def _trips(loop: str, lines_of: dict[str, list[str]]) -> int:
    """How often a ``while`` runs, 1 where that cannot be told."""
    if known := re.search(r'known_trip_count[^}]*?"n":"(\d+)"', loop):
        return int(known[1])
    condition = "\n".join(lines_of[re.search(r"condition=%?([\w.\-]+)", loop)[1]])
    limit = re.search(r"ROOT .* compare\(.*?%?([\w.\-]+)\), direction=LT", condition)
    value = limit and re.search(
        rf"%?{re.escape(limit[1])} = s32\[\]\S* constant\((\d+)\)", condition
    )
    return int(value[1]) if value else 1


def interconnect_bytes(program: str) -> float:
    """Bytes that one device sends for all collectives of a compiled program.

    Loop bodies count as often as they run, where the compiler says so or the condition compares a
    counter with a constant, as those of `jax.lax.scan` do; else once. A ring sends about the whole
    array once for a gather or scatter and twice for an all-reduce. What goes between slices is a
    transfer by their hosts, and not in here.
    """
    lines_of: dict[str, list[str]] = {}
    entry = name = ""
    for line in program.splitlines():
        opened = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if opened and not line.startswith(" "):
            name = opened[2]
            entry = name if opened[1] else entry
        lines_of.setdefault(name, []).append(line)

    @functools.cache
    def sent(computation: str) -> float:
        total = 0.0
        for line in lines_of.get(computation, ()):
            total += _bytes_of(line)
            if " while(" in line:
                body = re.search(r"body=%?([\w.\-]+)", line)
                total += sent(body[1]) * _trips(line, lines_of)
            elif called := re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", line):
                total += sent(called[1])
        return total

    return sent(entry)
