"""Parts that are named in a recipe: by table, by entry point, by module, by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ouroloop.evals import plugins
from ouroloop.evals.errors import DataError


class Loud:
    def __init__(self, volume: int = 1):
        self.volume = volume

    def play(self) -> int:
        return self.volume


class Mute:
    pass


KIND: plugins.Kind[Any] = plugins.Kind(
    "horn", "band.horn", "ouroloop.test_horns", {"loud": Loud, "mute": Mute}, ("play",)
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path, with a module and an installed entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_horns.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Soft:\n"
        "    volume: int = 0\n"
        "    def play(self):\n"
        "        return self.volume\n"
        "five = 5\n"
    )
    (tmp_path / "broken_horns.py").write_text("raise OSError('no air')\n")
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "opening.py").write_text("open('no such file')\n")
    (tmp_path / "making.py").write_text(
        "import sys\n"
        "def torn():\n    raise TypeError('bent')\n"
        "def lost():\n    return {}['horn']\n"
        "def shut():\n    open('no such file')\n"
        "def gone():\n    sys.exit(0)\n"
    )
    info = tmp_path / "own_horns-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-horns\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[ouroloop.test_horns]\nsoft = own_horns:Soft\ntorn = broken_horns:Soft\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["soft", "own_horns:Soft", "{folder}/own_horns.py:Soft"])
def test_a_part_is_found_by_entry_point_by_module_and_by_file(folder: Path, name: str) -> None:
    horn = plugins.build(KIND, name.format(folder=folder), {"volume": 3})
    assert horn.play() == 3


def test_a_built_in_part_is_made_with_its_options() -> None:
    assert plugins.build(KIND, "loud", {"volume": 7}).play() == 7
    assert plugins.names(KIND) == ["loud", "mute"]


def test_a_file_is_imported_once(folder: Path) -> None:
    name = f"{folder}/own_horns.py:Soft"
    assert plugins.find(KIND, name) is plugins.find(KIND, name)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("lood", {}, r"band\.horn: no horn is called 'lood'. Did you mean 'loud'\?"),
        ("qqqq", {}, r"There are loud, mute, soft, torn\. .* named module:Name"),
        ("mute", {}, r"gave a Mute, which has no 'play'; a horn needs play"),
        ("loud", {"volum": 3}, r"from options \['volum'\]: .* Did you mean 'volume'\?"),
        ("torn", {}, r"\(broken_horns:Soft\) cannot be imported: OSError: no air"),
        ("no_such:Soft", {}, r"no_such cannot be imported: ModuleNotFound.* PYTHONPATH"),
        ("broken_horns:Soft", {}, r"broken_horns cannot be imported: OSError: no air"),
        ("own_horns:Sof", {}, r"own_horns has no 'Sof'. Did you mean 'Soft'\?"),
        ("own_horns:five", {}, r"own_horns:five is a int; expected a class, or a function"),
        ("nowhere/x.py:Soft", {}, r"there is no file nowhere/x\.py.* the recipe's folder"),
        ("{folder}/broken_horns.py:Soft", {}, r"cannot be imported: OSError: no air"),
        ("{folder}/leaving.py:Soft", {}, r"cannot be imported: SystemExit: 0"),
        ("{folder}/opening.py:Soft", {}, r"cannot be imported: FileNotFound.*'no such file'"),
        ("{folder}/making.py:torn", {}, r"cannot be made: TypeError: bent \(making.py, line 3\)"),
        ("{folder}/making.py:lost", {}, r"cannot be made: KeyError: 'horn'"),
        ("{folder}/making.py:shut", {}, r"cannot be made: FileNotFoundError"),
        ("{folder}/making.py:gone", {}, r"cannot be made: SystemExit: 0"),
    ],
)
def test_a_wrong_name_says_where_what_and_the_remedy(
    folder: Path, name: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        plugins.build(KIND, name.format(folder=folder), options)


def test_an_error_inside_a_part_is_its_own() -> None:
    def angry() -> None:
        raise TypeError("out of tune")

    kind: plugins.Kind[Any] = plugins.Kind("horn", "band.horn", "none", {"angry": angry})
    with pytest.raises(TypeError, match="out of tune"):
        plugins.build(kind, "angry")
