"""Samples as other frameworks write them, read and judged."""

import gzip
import json

import pytest
from framework_files import (
    PROMPTS,
    chat,
    inspect_archive,
    inspect_log,
    inspect_samples,
    lines,
    lm_eval,
    nemo,
    openrlhf,
    samples,
    swift,
    trl,
    verl,
)

from ouroloop.loop.__main__ import main
from ouroloop.loop.traces.frameworks import FRAMEWORKS, read_framework, read_rounds
from ouroloop.loop.traces.scoring import Scoring
from ouroloop.monitors.traces.rows import TraceError


def dump(step) -> bytes:
    """One line as verl writes it."""
    return f'{{"input": "p", "output": "t", "score": 1, "step": {step}}}\n'.encode()


def damaged() -> bytes:
    """A gzipped file that was overwritten in its middle."""
    whole = bytearray(gzip.compress("".join(map(str, range(9999))).encode()))
    whole[200:250] = bytes(50)
    return bytes(whole)


DAMAGED = damaged()


WRITERS = {
    "verl": verl,
    "openrlhf": openrlhf,
    "nemo-rl": nemo,
    "ms-swift": swift,
    "trl": trl,
    "lm-eval": lm_eval,
    "inspect": inspect_log,
}


def test_every_framework_has_a_writer():
    assert WRITERS.keys() == FRAMEWORKS.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_the_samples_of_a_framework_are_read_as_they_are(name, tmp_path):
    traces = read_framework(name, WRITERS[name](tmp_path))
    assert len(traces.views) == 2
    for step, view in enumerate(traces.views):
        wanted = sorted((t, float(r)) for _, t, r in samples(step))
        got = sorted(zip(view.probe.text, view.probe.correct, strict=True))
        assert got == wanted
        assert len(set(view.probe.problem)) == len(PROMPTS)
    # The same prompts have the same ids in both rounds, whatever file they stood in.
    first, second = (set(view.probe.problem) for view in traces.views)
    assert first == second


def test_a_step_beside_columns_of_lists_is_the_round(tmp_path):
    (path,) = swift(tmp_path)
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    # Once for the record, where others repeat it for every sample.
    once = lines(tmp_path / "once.jsonl", [{**r, "step": int(r["step"][0])} for r in records])
    views = read_framework("ms-swift", [once]).views
    assert [len(view.probe) for view in views] == [4 * len(PROMPTS)] * 2


@pytest.mark.parametrize("name", WRITERS)
def test_a_strangers_loop_is_judged_by_one_command(name, tmp_path, capsys):
    paths = WRITERS[name](tmp_path)
    status = main(["monitor", "--from", name, *map(str, paths)])
    out = capsys.readouterr().out
    assert status in (0, 3) and "| 1     | " in out and "pass@1" in out


def test_of_several_rewards_the_right_one_has_to_be_named(tmp_path):
    record = {"prompt": "p", "completion": "t", "format": 1.0, "accuracy": 0.0, "step": 0}
    path = lines(tmp_path / "a.jsonl", [record])
    with pytest.raises(TraceError, match=r"a.jsonl:1: several rewards: got format, accuracy"):
        read_framework("trl", [path])
    (view,) = read_framework("trl", [path], Scoring("accuracy")).views
    assert list(view.probe.correct) == [0.0]
    with pytest.raises(TraceError, match="--reward nothing: got columns accuracy"):
        read_framework("trl", [path], Scoring("nothing"))


def test_of_several_scorers_of_inspect_the_right_one_has_to_be_named(tmp_path):
    sample = inspect_samples(0)[0]
    sample["scores"]["style"] = {"value": "I"}
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": [sample]}))
    with pytest.raises(TraceError, match="several scorers: got match, style"):
        read_framework("inspect", [path])
    (view,) = read_framework("inspect", [path], Scoring("style")).views
    assert list(view.probe.correct) == [0.0]


def test_the_pass_mark_turns_a_reward_into_a_verdict(tmp_path):
    rewards = (-1.0, 0.4, 0.6, 1.0, float("nan"))
    records = [{"input": "p", "output": f"{r}", "reward": r} for r in rewards]
    path = lines(tmp_path / "a.jsonl", records)
    (view,) = read_framework("openrlhf", [path], Scoring(pass_mark=0.5)).views
    assert list(view.probe.correct)[:4] == [0, 0, 1, 1] and view.probe.correct[4] != 0


def test_of_several_responses_of_a_document_none_is_scored(tmp_path):
    record = {"doc_id": 3, "doc": {}, "resps": [["a", "b"]], "exact_match": 1.0}
    (view,) = read_framework("lm-eval", [lines(tmp_path / "s.jsonl", [record])]).views
    assert list(view.probe.text) == ["a", "b"] and all(c != c for c in view.probe.correct)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"{", "not JSON"),
        ("a.jsonl", b"[1]", "expected an object of columns"),
        ("a.jsonl", b'{"prompt": 1}', "no record of verl"),
        ("a.jsonl", b'{"input": {"a": 1}, "output": "t", "score": 1}', "no record of verl"),
        ("a.parquet", b"no", "no Parquet file"),
        ("a.eval", b"no", "cannot be read"),
        ("a.jsonl.gz", b"no", "cannot be read"),
        ("a.txt", b"no", "expected a file ending in"),
        ("a.jsonl", b"", "no samples"),
        ("a.jsonl.gz", DAMAGED, "cannot be read"),
        ("a.jsonl", dump(0) + dump("1" + "0" * 400), "a.jsonl:2: step is '1000"),
        ("a.jsonl", dump(0) + dump("NaN"), "a.jsonl:2: step is 'nan'; expected the number"),
        ("a.jsonl", dump(0) + dump("null"), "a.jsonl:2: no step, while "),
    ],
)
def test_a_wrong_file_gets_one_sentence(tmp_path, name, content, message, capsys):
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["monitor", "--from", "verl", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "earlier", "later"),
    [
        (
            "inspect",
            "2025-03-09T10-00-00+00-00_gsm8k_Zk97qGprr.eval",
            "2025-03-10T10-00-00+00-00_gsm8k_Ab3cdefgh.eval",
        ),
        (
            "lm-eval",
            "samples_gsm8k_2025-03-09T10-00-00.900000.jsonl",
            "samples_gsm8k_2025-03-10T10-00-00.100000.jsonl",
        ),
    ],
)
def test_logs_of_a_folder_are_rounds_in_the_order_of_the_times_in_their_names(
    name, earlier, later, tmp_path
):
    folder = tmp_path / "logs"
    folder.mkdir()
    for step, file in enumerate((earlier, later)):
        if name == "inspect":
            inspect_archive(folder / file, step)
        else:
            lm_eval(tmp_path)[step].rename(folder / file)
    traces = read_framework(name, [folder])
    assert [source.rsplit("/", 1)[-1] for source in traces.sources] == [earlier, later]


def test_an_unknown_framework_and_a_missing_file_are_said(tmp_path, capsys):
    assert main(["monitor", "--from", "other", str(tmp_path)]) == 2
    assert "expected one of these (trl: completions_" in capsys.readouterr().err
    assert main(["monitor", "--from", "verl", str(tmp_path / "none.jsonl")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["monitor", "--from", "verl", str(tmp_path)]) == 2
    assert "no file ending in" in capsys.readouterr().err


def test_our_own_format_may_be_gzipped(tmp_path, capsys):
    rows = [{"problem": p, "text": t, "correct": r} for p, t, r in samples(0)]
    for step in (0, 1):
        raw = "".join(json.dumps(row | {"step": step}) + "\n" for row in rows)
        (tmp_path / f"r{step}.jsonl.gz").write_bytes(gzip.compress(raw.encode()))
    assert main(["monitor", *(str(tmp_path / f"r{s}.jsonl.gz") for s in (0, 1))]) == 0
    assert "| 1     | continue" in capsys.readouterr().out


@pytest.mark.slow
def test_a_strangers_loop_has_a_page_to_look_at(tmp_path, capsys):
    page = tmp_path / "pages" / "verl.html"
    main(["monitor", "--from", "verl", *map(str, WRITERS["verl"](tmp_path)), "--html", str(page)])
    text = page.read_text()
    assert "| 1     | " in capsys.readouterr().out
    assert (
        "<title>verl" in text
        and ">judged from samples</span>" in text
        and "unguarded arm" not in text
        and "Ways per problem" in text
    )
    # The numbers of the page are those of the table.
    (_, later) = read_framework("verl", [tmp_path]).views
    assert f"round 1: {100 * later.probe.correct.mean():.1f} %" in text
    assert "A baseline round and 1 later round of a loop" in text and "<small>starting" not in text
    assert "the answer is" in text, "the answers themselves, side by side"
    assert "no round is fit" not in text and "); samples do not say where it lies" in text


VERDICT = "Environment: correct"


@pytest.mark.parametrize(
    "content",
    [
        ["2+2?", "It is 4.", VERDICT],
        ["2+2?", "It is 4."],
        [*chat("2+2?"), {"role": "assistant", "content": "It is 4."}],
        [
            *chat("2+2?"),
            {"role": "assistant", "content": "It is 4."},
            {"role": "environment", "content": VERDICT},
        ],
    ],
)
def test_an_environments_word_of_nemo_rl_is_neither_the_answer_nor_a_part_of_the_prompt(
    content, tmp_path
):
    path = lines(tmp_path / "val_data_step1.jsonl", [{"content": [content], "rewards": [1.0]}])
    ((_, rows),) = read_rounds("nemo-rl", [path], Scoring())
    ((_, row),) = rows
    assert (row["question"], row["text"], row["correct"]) == ("2+2?", "It is 4.", True)


def test_the_one_step_of_a_record_of_lists_may_stand_beside_them(tmp_path):
    record = {"prompt": ["p", "q"], "completion": ["a", "b"], "reward": [1.0, 0.0]}
    path = lines(tmp_path / "a.jsonl", [record | {"step": 0}, record | {"step": 4}])
    assert read_framework("ms-swift", [path]).sources == ("step 0", "step 4")
    uneven = lines(tmp_path / "b.jsonl", [record | {"completion": ["a"]}])
    with pytest.raises(TraceError, match="got 2 prompts and 1 completions"):
        read_framework("ms-swift", [uneven])


def test_of_several_filters_one_has_to_be_named_or_samples_would_count_twice(tmp_path):
    records = [
        {"doc_id": 1, "resps": [["a"]], "filter": name, "exact_match": score}
        for name, score in (("strict-match", 0.0), ("flexible-extract", 1.0))
    ]
    path = lines(tmp_path / "s.jsonl", records)
    with pytest.raises(TraceError, match="--reward exact_match,flexible-extract"):
        read_framework("lm-eval", [path])
    scoring = Scoring("exact_match,strict-match")
    (view,) = read_framework("lm-eval", [path], scoring).views
    assert list(view.probe.correct) == [0.0]


def test_scored_answers_that_nobody_generated_are_refused(tmp_path):
    record = {"doc_id": 1, "resps": [[["-1.5", "False"]], [["-0.5", "True"]]], "acc": 1.0}
    with pytest.raises(TraceError, match="got log-likelihoods of given answers"):
        read_framework("lm-eval", [lines(tmp_path / "s.jsonl", [record])])


@pytest.mark.slow
def test_a_page_that_cannot_be_written_and_a_mark_that_is_no_number_are_said(tmp_path, capsys):
    command = ["monitor", "--from", "verl", *map(str, WRITERS["verl"](tmp_path))]
    assert main([*command, "--html", str(tmp_path)]) == 2
    assert f"monitor --html {tmp_path}: cannot be written (Is a directory)" in (
        capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main([*command, "--pass-mark", "nan"])
    assert "got 'nan'; expected a finite number" in capsys.readouterr().err


@pytest.mark.parametrize("size", [5, 20])
def test_our_own_gzipped_file_that_was_cut_or_damaged_gets_one_sentence(tmp_path, size, capsys):
    path = tmp_path / "r0.jsonl.gz"
    whole = gzip.compress(b'{"problem": "p", "text": "t"}\n' * 999)
    for content in (whole[:size], DAMAGED):
        path.write_bytes(content)
        assert main(["monitor", str(path)]) == 2
        assert f"{path}: cannot be read (" in capsys.readouterr().err


def test_a_pass_mark_beside_a_verdict_is_refused_for_it_would_not_be_used(tmp_path):
    record = {"input": "p", "output": "t", "score": 0.5, "acc": True}
    path = lines(tmp_path / "1.jsonl", [record])
    (view,) = read_framework("verl", [path]).views
    assert list(view.probe.correct) == [1.0]
    with pytest.raises(
        TraceError, match=r"1\.jsonl:1: --pass-mark 2: got True, a verdict to which"
    ):
        read_framework("verl", [path], Scoring(pass_mark=2))
    (view,) = read_framework("verl", [path], Scoring("score", 2)).views
    assert list(view.probe.correct) == [0.0]
