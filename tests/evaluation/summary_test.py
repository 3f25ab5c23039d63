"""Statistics of records: intervals, scenes without a value, paired differences."""

import numpy as np
import pytest

from mvdust3r_jax.evaluation.summary import interval, room_of, summarize


def test_interval_covers_the_mean():
    """The bootstrapped interval contains the true mean in about 95 % of repetitions."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        mean, low, high = interval(rng.normal(size=40), resamples=500)
        assert low <= mean <= high
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99
    assert all(np.isnan(interval(np.zeros(0))))


def test_one_scene_has_no_interval():
    """Its mean is itself, and nothing is said about the spread."""
    mean, low, high = interval(np.array([2.0]))
    assert mean == 2 and np.isnan(low) and np.isnan(high)


def rows_of(**methods):
    """Records of scenes '0', '1', ... with the given ND of each method."""
    key = {"dataset": "d", "views": 4}
    return [
        key | {"method": method, "id": str(i), "nd": nd}
        for method, values in methods.items()
        for i, nd in enumerate(values)
    ]


def test_scenes_without_a_value_are_counted_apart():
    """They do not enter the mean."""
    (row,) = summarize(rows_of(m=[1.0, None]), [])
    assert row["numbers"]["nd"]["mean"] == 1.0 and row["numbers"]["nd"]["without_value"] == 1
    assert row["empty_scenes"] == 1


def test_paired_differences_leave_out_how_hard_scenes_are():
    """A constant advantage has an interval of no width, however much the scenes differ."""
    hard = np.random.default_rng(0).uniform(0, 5, 30)
    better, worse = summarize(rows_of(better=hard, worse=hard + 0.25), [])
    assert "against" not in better and worse["against"]["method"] == "better"
    found = worse["against"]["numbers"]["nd"]
    np.testing.assert_allclose([found[k] for k in ("mean", "low", "high")], 0.25, rtol=1e-9)
    alone = worse["numbers"]["nd"]
    assert alone["high"] - alone["low"] > 0.5 and found["scenes"] == 30


def test_differences_are_over_shared_scenes_only():
    """Scenes are matched by id; one that either lacks does not count, nor one without a value."""
    records = rows_of(a=[1.0, 2.0, None, 9.0], b=[None, 3.0, 4.0, 11.0])
    records = [r for r in records if (r["method"], r["id"]) != ("a", "0")]
    rows = {row["method"]: row for row in summarize(records, [])}
    found = rows["b"]["against"]
    assert found["method"] == "a" and found["numbers"]["nd"]["scenes"] == 2
    np.testing.assert_allclose(found["numbers"]["nd"]["mean"], 1.5)


def test_nobody_is_compared_with_who_knows_the_truth():
    """The oracle is not the best method, and has no difference itself."""
    rows = {
        row["method"]: row
        for row in summarize(rows_of(oracle=[0, 0], a=[1, 1], b=[2, 2]), [], knowing=["oracle"])
    }
    assert rows["b"]["against"]["method"] == "a"
    assert "against" not in rows["oracle"] and "against" not in rows["a"]


def test_intervals_are_over_rooms_not_over_walks_through_them():
    """Copies of walks through the same rooms say nothing new: the interval stays as it was."""
    values = np.random.default_rng(0).normal(size=12)
    once = interval(values, [f"{i:02d}" for i in range(12)])
    copied = interval(np.repeat(values, 5), [f"{i:02d}" for i in range(12) for _ in range(5)])
    np.testing.assert_allclose(copied, once, atol=1e-12)
    np.testing.assert_allclose(once, interval(values), atol=1e-12)
    alone = interval(values, ["kitchen"] * 12)
    assert alone[0] == values.mean() and np.isnan(alone[1])


@pytest.mark.parametrize(
    "trajectory, room",
    [
        ("chess/seq-01/17", "chess"),
        ("scene0000_01/3", "scene0000"),
        ("kitchen/3", "kitchen"),
        ("r3:1000017", "r3:1000017"),
    ],
)
def test_scans_of_one_room_are_no_independent_cases(trajectory, room):
    """Two scans of it are one room of an interval."""
    assert room_of({"id": trajectory}) == room
