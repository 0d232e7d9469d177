"""The documentation site: built strictly, complete, and silent on the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from doc_pages import ROOT

pytestmark = pytest.mark.slow


class Asked(HTMLParser):
    """What a browser fetches by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        # A link that a person follows is no request, nor is a page's own address in its head.
        is_named = tag == "link" and about.get("rel") in ("canonical", "prev", "next", "edit")
        if tag in ("script", "img", "link", "iframe", "source", "video") and not is_named:
            self.addresses += [about.get(key) or "" for key in ("src", "href")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = "mkdocs-material is not installed: pip install 'ouroloop[docs]'"
    pytest.importorskip("material", reason=reason)
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return out


def test_no_page_asks_another_machine_for_anything(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        asked = Asked()
        asked.feed(page.read_text(encoding="utf-8"))
        outside = [a for a in asked.addresses if re.match(r"(https?:)?//", a)]
        assert not outside, f"{page.relative_to(site)}: {outside}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8"))


def test_the_reference_has_every_key_command_metric_and_guarded_quantity(site: Path) -> None:
    from ouroloop.loop.config.schema import keys
    from ouroloop.monitors.decision.guarded import GUARDED
    from ouroloop.monitors.registry import monitors_for

    pages = {
        name: (site / "reference" / f"{name}.html").read_text(encoding="utf-8")
        for name in ("recipe", "commands", "metrics", "api")
    }
    assert not [key.name for key in keys() if f"<code>{key.name}</code>" not in pages["recipe"]]
    for command in ("run", "init", "monitor", "study", "bench"):
        assert f"ouroloop {command}</" in pages["commands"] or f"{command}<a" in pages["commands"]
    assert not [name for name in monitors_for() if f'id="{name}"' not in pages["metrics"]]
    assert not [q.id for q in GUARDED if f"<code>{q.id}</code>" not in pages["metrics"]]
    # The end of a description in braces is text, not an attribute of its cell.
    assert "{enable_thinking: false}" in pages["recipe"]
    assert "CollapseMonitor" in pages["api"] and "every_steps" in pages["api"]


def test_a_line_of_a_docstring_is_no_item_of_a_list(site: Path) -> None:
    metrics = (site / "reference" / "metrics.html").read_text(encoding="utf-8")
    assert "<li>1" not in metrics.replace("<p>", "").replace("\n", "")


def test_what_stands_beside_an_experiments_page_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "runs" / "experiments").glob("*/*.md"):
        name = "index" if page.stem == "README" else page.stem
        assert (site / "experiments" / page.parent.name / f"{name}.html").is_file(), page


def test_pages_from_elsewhere_link_to_each_other_and_not_to_source_files(site: Path) -> None:
    monitors = (site / "project" / "MONITORS.html").read_text(encoding="utf-8")
    assert 'href="../alarms.html"' in monitors
    tour = (site / "tour.html").read_text(encoding="utf-8")
    assert 'href="project/runs.html"' in tour
    assert not re.search(r'href="[^"]*\.(py|yaml)"', monitors + tour)
