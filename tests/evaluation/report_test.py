"""Tables: units, which definitions, skipped methods, one scene, CSV."""

import csv

from mvdust3r_jax.evaluation import report
from mvdust3r_jax.evaluation.summary import summarize


def summary_of(scenes):
    """Two methods, one number with and one without a published definition."""
    key = {"dataset": "d", "views": 4}
    return summarize(
        [
            key | {"method": m, "id": str(i), "nd": i + w, "nd_release": i + w + 10, "cd": 0.5}
            for i in range(scenes)
            for m, w in (("a", 0.0), ("b", 0.5))
        ],
        [],
    )


def test_headings_say_unit_and_definition():
    """Meters and square meters; what is published says so."""
    usual, published = (report.table(summary_of(3), suffix) for suffix in ("", report.RELEASE))
    assert "| ND m | CD m² |" in usual and "published" not in usual
    assert "| ND m (published) | CD m² |" in published
    assert "1.000 ±" in usual and "11.000 ±" in published


def test_one_scene_has_no_plus_minus():
    """A single scene says nothing about its spread, and is compared with nothing."""
    text = report.table(summary_of(1))
    assert (
        "| a | 4 | 1 | 0.000 | 0.5000 |" in text and "±" not in text and "differences" not in text
    )


def test_differences_have_a_table():
    """Each method minus the best one, with the ends of its interval."""
    text = report.table(summary_of(3))
    assert "| b | 4 | a | +0.500 [+0.500, +0.500] | +0.0000 [+0.0000, +0.0000] |" in text


def test_files_tell_what_they_are(tmp_path):
    """Each Markdown file names its definitions and the other file."""
    report.write_tables(tmp_path, summary_of(2), {}, {})
    usual, published = (tmp_path / name for name in ("table.md", "table_release.md"))
    assert (
        usual.read_text().startswith("# Evaluation, usual") and published.name in usual.read_text()
    )
    assert published.read_text().startswith("# Evaluation, published")
    assert usual.name in published.read_text()


def test_csv_has_both_definitions_unrounded(tmp_path):
    """Read back by the csv module, the values are those of the summary."""
    summary = summary_of(3)
    report.write_tables(tmp_path, summary, {"a": "A, best"}, {})
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["A, best", "b"]
    assert float(rows[1]["ND m"]) == summary[1]["numbers"]["nd"]["mean"]
    assert float(rows[1]["ND m (published) high"]) == summary[1]["numbers"]["nd_release"]["high"]
