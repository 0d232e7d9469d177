"""An estimand is an identity: its id says all of it and nothing else."""

from __future__ import annotations

import pytest

from ouroloop.monitors.estimators.estimand import Estimand


@pytest.mark.parametrize(
    ("estimand", "written"),
    [
        (Estimand("accuracy/pass@1"), "accuracy/pass@1"),
        (Estimand("diversity/dcp", "sum2"), "diversity/dcp:sum2"),
        (Estimand("accuracy/pass@4", "sum2", "tail"), "accuracy/pass@4:sum2:tail"),
        (Estimand("accuracy/pass@1", samples="greedy"), "accuracy/pass@1:all:all:greedy"),
        (Estimand("accuracy/pass@1", "a:b", "50%"), "accuracy/pass@1:a%3Ab:50%25"),
        (Estimand("accuracy/pass@1", ""), "accuracy/pass@1:%"),
        (Estimand("accuracy/pass@1", "%3A"), "accuracy/pass@1:%253A"),
    ],
)
def test_an_id_is_written_and_read_back(estimand: Estimand, written: str) -> None:
    assert estimand.id == written
    assert Estimand.parse(written) == estimand


@pytest.mark.parametrize("parts", [("",), ("a:b",), ("a", "b", "c", ""), ("a", "b", "c", "d:e")])
def test_a_part_that_could_not_be_read_back_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="expected a name without"):
        Estimand(*parts)


def test_too_many_parts_are_no_estimand() -> None:
    with pytest.raises(ValueError, match="1 to 4 parts"):
        Estimand.parse("a:b:c:d:e")
