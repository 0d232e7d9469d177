"""LOG.md: one dated, titled heading per finding, newest first."""

import re
from pathlib import Path

LOG = (Path(__file__).resolve().parents[2] / "LOG.md").read_text(encoding="utf-8")
HEADING = re.compile(r"## (\d{4}-\d\d-\d\d) - [^a-z].*\S")


def test_every_finding_has_a_dated_title_newest_first():
    headings = [line for line in LOG.splitlines() if line.startswith("#")][1:]
    wrong = [line for line in headings if not HEADING.fullmatch(line)]
    assert wrong == [] and len(headings) > 80
    dates = [HEADING.fullmatch(line)[1] for line in headings]
    assert dates == sorted(dates, reverse=True)
    assert len(set(headings)) == len(headings)


def test_a_negative_finding_says_so_in_its_title_alone():
    assert not re.search(r"\*\*Negative", LOG, re.IGNORECASE)
    assert sum("(negative)" in line for line in LOG.splitlines() if line.startswith("## ")) > 30


def test_lines_are_narrow_but_for_tables():
    wide = [line for line in LOG.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert wide == []
