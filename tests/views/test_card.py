from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import UserError
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.card import release
from ouroloop.loop.views.measures import BY_KEY
from ouroloop.loop.views.reader import read_run


@pytest.fixture
def path(arms: tuple[Path, Path], tmp_path: Path) -> Path:
    found = shutil.copytree(arms[1], tmp_path / "unguarded")
    for number in (2, 7):
        folder = found / "rounds" / f"{number:03d}" / "checkpoint"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"0" * 1234)
        (folder / "README.md").write_text("written by hand")
    return found


@pytest.mark.slow
def test_a_card_holds_the_runs_own_numbers_and_says_what_is_wrong(path: Path) -> None:
    run = read_run(path)
    card = release(run, 7).card
    _, front, text = card.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["base_model"] == run.recipe["model"] and about["library_name"] == "transformers"
    assert all(line in text for line in sentences(run))
    assert "**After round 7 the decision rule called for rollback**: accuracy fell by 4.1" in text
    assert "The guard was off" in text and "One run with one seed" in text
    assert BY_KEY["pass@1"].text(BY_KEY["pass@1"].read(run.rounds[7])).replace(" %", "") in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe == run.recipe


@pytest.mark.slow
def test_a_dry_run_lists_what_would_be_sent_and_sends_nothing(path: Path, capsys) -> None:
    assert main(["publish", str(path), "--round", "2", "--to", "me/it", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "1,234 model.safetensors" in out and "# unguarded, round 2" in out
    assert "written by hand" not in out
    assert "The decision rule accepted round 2." in out


@pytest.mark.slow
def test_a_round_without_a_checkpoint_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="round 0 has no checkpoint of its own"):
        release(read_run(path), 0)
    with pytest.raises(UserError, match=r"expected --round with .* that trained: 1, 2, 3"):
        release(read_run(path), 99)


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_one_sentence(path: Path, monkeypatch, capsys) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert main(["publish", str(path), "--round", "2", "--to", "me/it"]) == 2
    error = capsys.readouterr().err
    assert "the hub refused or did not answer" in error and "--dry-run" in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a name", "a/b/c", "-x/y"])
def test_a_dry_run_refuses_the_names_that_a_hub_would_refuse(path: Path, name, capsys) -> None:
    assert main(["publish", str(path), f"--to={name}", "--dry-run"]) == 2
    assert f"publish --to {name}: expected ORG/NAME" in capsys.readouterr().err
