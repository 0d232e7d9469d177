"""Dataclasses as files: what is written is what is read back, and the schema is the type's."""

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isnan, nan
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.lines import read_lines
from ouroloop.loop.folder.tables import from_json, read_table, schema_of, to_json, write_table
from ouroloop.loop.records import Completion, Critique, Sample
from ouroloop.loop.round import Round
from ouroloop.loop.rows import AuditRow, Example, ProbeRow, RoundPlan, Verdict

EXAMPLE = Example("p", (1, 2), (3,), "text", "kept", 4, strategy=None, sample_id="s")


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Outer:
    name: str
    value: float
    maybe: float | None
    colour: Colour
    inner: Inner
    others: tuple[Inner, ...]
    more: dict[str, int] = field(default_factory=dict)


OUTER = Outer("a", 0.5, None, Colour.RED, Inner((1, 2)), (Inner(()), Inner((3,))))


def test_a_schema_is_the_types_of_the_fields_in_their_order():
    assert schema_of(Example) == pa.schema(
        {
            "problem_id": pa.string(),
            "prompt_token_ids": pa.list_(pa.int32()),
            "completion_token_ids": pa.list_(pa.int32()),
            "text": pa.string(),
            "origin": pa.string(),
            "round": pa.int32(),
            "strategy": pa.string(),
            "sample_id": pa.string(),
            "learnt_prompt_positions": pa.list_(pa.int32()),
        }
    )
    verdict = schema_of(Verdict)
    assert verdict.field("kept").type == verdict.field("correct").type == pa.bool_()
    assert verdict.field("num_tokens").type == pa.int64()
    assert schema_of(ProbeRow).field("correct").type == pa.float64()
    assert schema_of(AuditRow).field("reasons").type == pa.list_(pa.string())


def test_a_type_that_no_column_can_hold_is_refused_by_name():
    @dataclass
    class Wrong:
        inner: Inner

    Wrong.__annotations__["inner"] = Inner
    with pytest.raises(TypeError, match=r"Wrong\.inner"):
        schema_of(Wrong)


@pytest.mark.parametrize("rows", [[], [EXAMPLE], [EXAMPLE, replace(EXAMPLE, strategy="split")]])
def test_rows_come_back_as_they_were(tmp_path, rows):
    path = tmp_path / "examples.parquet"
    write_table(path, rows, Example)
    assert read_table(path, Example) == tuple(rows)
    assert pq.read_schema(path).equals(schema_of(Example))
    assert [file.name for file in tmp_path.iterdir()] == ["examples.parquet"], "no torn file"


def test_a_column_of_a_later_version_takes_its_default_and_one_that_all_need_is_missed(tmp_path):
    path = tmp_path / "examples.parquet"
    write_table(path, [EXAMPLE], Example)
    pq.write_table(pq.read_table(path).drop_columns(["sample_id"]), path)
    assert read_table(path, Example) == (replace(EXAMPLE, sample_id=None),)
    pq.write_table(pq.read_table(path).drop_columns(["text"]), path)
    with pytest.raises(RunStateError, match=r"examples\.parquet: 'text' is missing"):
        read_table(path, Example)


def test_a_record_survives_json_with_all_that_it_is_made_of():
    assert from_json(Outer, json.loads(json.dumps(to_json(OUTER)))) == OUTER
    plan = RoundPlan(3, 2, 2, (0.5, 0.9), 0.0, None, False, 100, ("because",), teachers=(2, 0))
    assert from_json(RoundPlan, json.loads(json.dumps(to_json(plan)))) == plan
    assert list(to_json(plan))[:3] == ["round", "sample_from", "start_from"]


def test_null_is_nan_where_a_number_cannot_be_missing_and_none_where_it_can():
    read = from_json(Outer, {**to_json(OUTER), "value": None, "maybe": None, "unknown": 1})
    assert isnan(read.value) and read.maybe is None


def test_a_key_that_has_no_default_is_missed_by_name():
    raw = to_json(replace(OUTER, value=nan))
    del raw["colour"]
    with pytest.raises(RunStateError, match=r"here: 'colour' is missing"):
        from_json(Outer, raw, "here")


def completion(text):
    return Completion("r", (1,), (2, 3), (-0.123456789, -1.0), text, "stop", "v")


SAMPLE = Sample(
    "000/student/p/0",
    "p",
    0,
    1.0,
    completion("draft"),
    (Critique(completion("verdict wrong"), False, 0.25, "principle"),),
    (completion("revised"),),
)


def test_samples_are_read_as_they_were_written_with_five_decimals(tmp_path):
    made = Round.of(tmp_path, 1)
    assert made.samples == ()
    made.samples = [SAMPLE, replace(SAMPLE, id="second")]
    found = Round.of(tmp_path, 1).samples
    assert [sample.id for sample in found] == [SAMPLE.id, "second"]
    assert found[0].draft.logprobs == (-0.12346, -1.0), "enough, and a third shorter"
    assert found[0].final.text == "revised" and found[0].critiques[0].probability == 0.25
    assert read_lines(made.folder / "samples.jsonl").first_bad is None


def test_an_annotation_chooses_the_parquet_type():
    @dataclass
    class Small:
        count: int

    Small.__annotations__["count"] = Annotated[int, "int16"]
    assert schema_of(Small).field("count").type == pa.int16()
