from __future__ import annotations

import json
import statistics
from pathlib import Path

import fake_run
import pandas as pd
import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.views.arms import arms
from ouroloop.loop.views.compare import (
    compare,
    compare_table,
    draw_comparison,
    write_comparison,
)
from ouroloop.loop.views.measures import BY_KEY
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow


def of_seed(folder: Path, name: str, seed: int, guarded: bool = True) -> Path:
    path = fake_run.make_run(folder, name, guarded, rounds=2, seed=seed)
    recipe = json.loads((path / "recipe.json").read_text()) | {"seed": seed}
    (path / "recipe.json").write_text(json.dumps(recipe))
    return path


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    steered = [of_seed(folder, f"steered-{seed}", seed) for seed in (1, 2, 3)]
    return [*steered, of_seed(folder, "free", 1, guarded=False)]


def test_runs_that_differ_in_their_seed_alone_are_one_arm(paths: list[Path]) -> None:
    found = arms([read_run(path) for path in paths])
    assert [(arm.name, len(arm.runs)) for arm in found] == [("steered", 3), ("free", 1)]


def test_one_seed_given_twice_is_no_spread(paths: list[Path], tmp_path: Path) -> None:
    again = of_seed(tmp_path, "again", 1)
    found = arms([read_run(path) for path in (paths[0], again)])
    assert [len(arm.runs) for arm in found] == [1, 1]


def test_an_arm_of_several_seeds_is_their_mean_with_its_t_interval(paths: list[Path]) -> None:
    (arm, single) = arms([read_run(path) for path in paths])
    measure = BY_KEY["pass@1"]
    number, value = arm.points(measure)[1]
    each = [measure.read(run.rounds[1]).value for run in arm.runs]
    assert number == 1 and value.value == pytest.approx(statistics.mean(each))
    # Student's t with two degrees of freedom: 4.303.
    half = 4.303 * statistics.stdev(each) / 3**0.5
    assert value.high - value.value == pytest.approx(half, rel=1e-3)
    assert single.points(measure)[1][1] == measure.read(single.first.rounds[1])


def test_the_page_of_several_seeds_says_what_its_lines_are(paths: list[Path], tmp_path: Path):
    page = write_report(paths, tmp_path / "r.html").read_text()
    assert "<b>3 seeds.</b>" in page and "steered, round 1: " in page
    assert all(str(path) in page for path in paths)


def test_comparing_several_seeds_shows_their_mean_and_each_seeds_numbers(
    paths: list[Path], tmp_path: Path
) -> None:
    both = compare(paths)
    assert json.loads(json.dumps(both, allow_nan=False)) == both
    table = compare_table(both)
    assert "| 3 continue" in table and "steered: mean of 3 seeds" in table
    value = arms([read_run(path) for path in paths])[0].points(BY_KEY["pass@1"])[1][1]
    shown = BY_KEY["pass@1"].text(value).replace(" %", "")
    assert f"| {shown} " in table
    for name, read in (("all.csv", pd.read_csv), ("deep/all.parquet", pd.read_parquet)):
        found = read(write_comparison(both, tmp_path / name))
        assert len(found) == 4 * 3 * len(both["measures"])
        one = found[(found["run"] == "steered-2") & (found["measure"] == "pass@1")]
        assert list(one["round"]) == [0, 1, 2] and set(one["seed"]) == {2}
        own = BY_KEY["pass@1"].read(read_run(paths[1]).rounds[2])
        assert one["value"].iloc[2] == pytest.approx(own.value)
    with pytest.raises(UserError, match=r"expected .csv, .parquet or .svg"):
        write_comparison(both, tmp_path / "all.xlsx")


def test_comparing_arms_draws_them_and_an_empty_run_is_a_table_with_heads_and_no_picture(
    paths: list[Path], tmp_path: Path
) -> None:
    drawn = draw_comparison(paths, tmp_path / "deep" / "all.svg").read_text()
    assert "Right answers (pass@1)" in drawn and ">steered<" in drawn
    assert drawn == draw_comparison(paths, tmp_path / "again.svg").read_text()
    empty = fake_run.make_run(tmp_path, "empty", rounds=0)
    (empty / "rounds" / "000" / "MANIFEST.json").unlink()
    table = pd.read_csv(write_comparison(compare([empty]), tmp_path / "empty.csv"))
    assert not len(table) and {"run", "measure", "value", "reason"} <= set(table)
    assert "empty: no round is fit to be called best" in compare_table(compare([empty]))
    with pytest.raises(UserError, match="no measure is defined"):
        draw_comparison([empty], tmp_path / "empty.svg")
