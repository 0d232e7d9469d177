"""What the pages on data and constitutions show as a recipe is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.recipe_file import resolve

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = [
    pytest.param(text, id=f"{name}-{number}")
    for name in ("data.md", "constitution.md")
    for number, text in enumerate(
        re.findall(r"```yaml\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize("text", SHOWN)
def test_a_recipe_of_a_page_has_no_unknown_key(tmp_path: Path, text: str) -> None:
    shown = yaml.safe_load(text)
    recipe = resolve({"name": "shown", **shown}, base=tmp_path)
    # A page may show one section alone.
    assert recipe.task.kind == "dataset" or "task" not in shown


def test_the_pages_show_recipes() -> None:
    assert len(SHOWN) == 4
