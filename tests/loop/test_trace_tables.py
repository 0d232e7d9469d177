"""Traces in the files that people have: one table of all rounds, as CSV, Parquet, JSON or JSONL."""

import csv
import gzip
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from ouroloop.loop.traces import records
from ouroloop.loop.traces.tables import read_own, rows_of
from ouroloop.monitors.traces.clusters import TraceClusters, When
from ouroloop.monitors.traces.kept import KeptViews
from ouroloop.monitors.traces.reader import TraceReader, read_traces
from ouroloop.monitors.traces.rows import TraceError

# A comma, a quotation mark and a line end in one text: what a table of texts must survive.
ROWS = [
    {
        "round": number,
        "problem": f"p{problem}",
        "text": f'He said "{problem}+{sample}", then\n{problem}+{sample}={problem + sample}.',
        "correct": bool((problem + sample + number) % 2),
        "logprobs": [-0.5, -0.25],
    }
    for number in (3, 1, 2)
    for problem in range(4)
    for sample in range(2)
]


def written(path, rows):
    """A file of these rows, of the kind that its name says."""
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        opened = gzip.open if kind.endswith("gz") else open
        with opened(path, "wt", newline="") as file:
            delimiter = {"tsv": "\t", "semicolons.csv": ";"}.get(kind, ",")
            table = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
            table.writeheader()
            for row in rows:
                cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
                table.writerow({k: "" if v is None else v for k, v in cells.items()})
    return path


def same(one, other):
    """Whether two samples say the same."""
    names = ("problem", "text", "strategy", "answer")
    numbers = ("correct", "nll", "num_tokens")
    return all(list(getattr(one, n)) == list(getattr(other, n)) for n in names) and all(
        np.array_equal(getattr(one, n), getattr(other, n), equal_nan=True) for n in numbers
    )


@pytest.fixture
def by_round(tmp_path):
    """The rows as `read_traces` wants them: a JSONL file per round."""
    paths = [
        written(tmp_path / f"r{n}.jsonl", [row for row in ROWS if row["round"] == n])
        for n in (1, 2, 3)
    ]
    return read_traces(paths)


@pytest.mark.parametrize(
    "kind", ["csv", "semicolons.csv", "csv.gz", "tsv", "parquet", "json", "jsonl"]
)
def test_one_table_of_all_rounds_reads_as_a_file_per_round(kind, tmp_path, by_round):
    path = written(tmp_path / f"all.{kind}", ROWS)
    traces = read_own([path])
    # In the order of their numbers, whatever the order of the rows.
    assert traces.sources == tuple(f"{path}, round {n}" for n in (1, 2, 3))
    assert [view.round for view in traces.views] == [0, 1, 2]
    pairs = zip(traces.views, by_round.views, strict=True)
    assert all(same(one.probe, other.probe) for one, other in pairs)


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_a_table_per_round_is_read_like_a_jsonl_file_per_round(kind, tmp_path, by_round):
    paths = [
        written(tmp_path / f"t{n}.{kind}", [row for row in ROWS if row["round"] == n])
        for n in (1, 2, 3)
    ]
    traces = read_own(paths)
    assert traces.sources == tuple(map(str, paths))
    pairs = zip(traces.views, by_round.views, strict=True)
    assert all(same(one.probe, other.probe) for one, other in pairs)
    paths.append(tmp_path / f"t4.{kind}")
    paths[-1].write_bytes(paths[-2].read_bytes())
    with pytest.raises(TraceError, match="byte for byte the same"):
        read_own(paths)


def test_a_round_as_text_is_one_and_another_name_for_it_is_refused(tmp_path):
    rows = [{**row, "round": str(row["round"])} for row in ROWS]
    assert len(read_own([written(tmp_path / "texts.jsonl", rows)]).views) == 3
    for name in ("Round", "rounds", "epoch"):
        rows = [{name if key == "round" else key: x for key, x in row.items()} for row in ROWS]
        with pytest.raises(TraceError, match=f"Is it what you call '{name}'"):
            read_own([written(tmp_path / "other.csv", rows)])
        # In a file for each round the order of the files counts.
        assert len(read_own([written(tmp_path / "one.csv", rows[:8])]).views) == 1


def test_a_column_without_a_name_is_called_so(tmp_path):
    path = tmp_path / "index.csv"
    path.write_text(",problem,correct\n0,a,1\n1,b,0\n")
    assert "not read: a column without a name" in read_own([path]).notes


def test_without_a_round_one_file_is_the_baseline(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "round"} for row in ROWS[:8]]
    for kind in ("csv", "jsonl"):
        (view,) = read_own([written(tmp_path / f"one.{kind}", rows)]).views
        assert len(view.probe) == 8


def test_cells_mean_what_pandas_and_spreadsheets_write(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text(
        "\ufeffproblem,correct,valid,num_tokens,approved,text,mine\n"
        '1,True,0.0,7.0,"{""harmless"": true}",a,x\n'
        "1,false,1,,TRUE,,\n"
        "2,,,,,00,\n",
        encoding="utf-8",
    )
    rows = [row for _, row in rows_of(str(path))]
    assert rows[0]["correct"] is True and rows[0]["valid"] is False
    assert rows[0]["num_tokens"] == 7 and rows[0]["approved"] == {"harmless": True}
    assert rows[1] == {"problem": "1", "correct": False, "valid": True, "approved": True}
    # A text stays a text, even where it looks like a number, and nothing is not the empty text.
    assert rows[2] == {"problem": "2", "text": "00"}


def test_jsonl_under_the_name_json_is_read_as_what_it_is(tmp_path):
    path = tmp_path / "lines.json"
    path.write_text('\n{"problem": "a", "text": "x"}\n{"problem": "b", "text": "y"}\n')
    assert len(read_own([path]).views[0].probe) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "problem,correct\np,maybe\n", r"a.csv:2: correct is 'maybe'; expected true"),
        ("a.csv", "problem,text\np,a,b\n", r"a.csv:2: got 3 cells, the header has 2"),
        ("a.csv", "problem,text\np\n", r"a.csv:2: got 1 cells, the header has 2"),
        ("a.csv", "problem,text,text\np,a,b\n", r"a.csv:1: the header names .* 'text' twice"),
        ("a.csv", 'problem,text\np,"a\n', r"a.csv:2: not CSV \(unexpected end of data\)"),
        ("a.csv", "problem,logprobs\np,[0\n", r"a.csv:2: logprobs is '\[0'; expected a list"),
        ("a.csv", b"problem,text\np,\xff\n", r"a.csv: cannot be read .* in UTF-8"),
        ("a.csv", "", r"a\.csv has no rows"),
        ("a.csv.gz", "no gzip", r"a.csv.gz: cannot be read"),
        ("a.parquet", "no table", r"a.parquet: no Parquet file"),
        ("a.json", "[1]", r"a.json:1: got '?1'?; expected an object"),
        (
            "a.jsonl",
            '{"problem": "p", "round": 1}\n{"problem": "p"}\n',
            r"a.jsonl:2: no round, where other rows of .*a.jsonl have one; .* drop it",
        ),
        ("a.jsonl", '{"problem": "p", "round": "x"}\n', r"a.jsonl:1: round is 'x'; expected"),
        ("a.jsonl", '{"problem": "p", "round": -1}\n', r"a.jsonl:1: round is -1"),
        (
            "a.csv",
            "problem,round\np,0.5\n",
            r"round is 0.5; expected the round's number, a whole number of at least 0\. Number the",
        ),
        ("a.csv", "problem,text\n,x\n", r"a.csv:2: problem is empty .*; expected the prompt's id"),
        ("a.jsonl", "[3]\n", r"a.jsonl:1: got \[3\]; expected one JSON object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TraceError, match=message):
        read_own([path])


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.json", "none.jsonl"])
def test_a_missing_file_is_said_whatever_its_name(name, tmp_path):
    with pytest.raises(TraceError, match="no such file"):
        read_own([tmp_path / name])
    with pytest.raises(TraceError, match="no such file"):
        read_own([tmp_path / name, tmp_path / f"x{name}"])


def peak_of_reading(path, num_rounds):
    """Bytes that reading a table of so many rounds, and looking at each, takes at most."""
    rows = [
        {"round": n, "problem": f"p{i % 5}", "answer": "7", "text": f"{i} of {n}. " * 500}
        for n in range(num_rounds)
        for i in range(60)
    ]
    written(path, rows)
    del rows
    tracemalloc.start()
    views = read_own([path], "none", clusters=TraceClusters(when=When.NEVER)).views
    assert [len(view.probe) for view in views] == [60] * num_rounds
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_reading_takes_the_memory_of_one_round_however_many_there_are(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH_ROWS", 10)
    # Once before: what is imported then is counted in neither.
    peak_of_reading(tmp_path / f"first.{kind}", 1)
    two, eight = (peak_of_reading(tmp_path / f"{n}.{kind}", n) for n in (2, 8))
    assert eight < 1.5 * two


def test_a_wrong_row_of_a_parquet_file_is_named_whatever_portion_it_is_in(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BATCH_ROWS", 3)
    rows = [{"problem": "p", "nll": 1.0 - n // 7 * 2} for n in range(9)]
    path = written(tmp_path / "t.parquet", rows)
    with pytest.raises(TraceError, match=r"t\.parquet:8: nll is -1\.0"):
        read_own([path])


def test_a_view_that_was_kept_is_the_one_that_was_read():
    kept, rows = KeptViews(), [{"problem": f"p{n % 3}", "kept": n % 2} for n in range(9)]
    views = [TraceReader().read((str(n), row) for n, row in enumerate(rows[:m])) for m in (4, 9)]
    for view in views:
        kept.append(view)
    # In any order, and again and again.
    for number in (1, 0, -1, 0):
        assert same(kept[number].probe, views[number].probe)
        assert kept[number].pool.kept.tolist() == views[number].pool.kept.tolist()
    assert [len(view.probe) for view in kept[::-1]] == [9, 4] and len(kept) == 2
