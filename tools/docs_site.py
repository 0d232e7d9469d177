"""What the documentation site shows beside the files of docs/: a hook of mkdocs (mkdocs.yml).

Reference pages are made of the code when the site is built, so that they cannot be out of date.
Pages that lie elsewhere in the repository (MONITORS.md, each experiment's README) join the site as
they are; links between them are turned to where the pages stand, and links to source files, which
the site does not have, become plain text.
"""

from __future__ import annotations

import argparse
import ast
import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PROJECT = (
    "MONITORS.md",
    "REPRODUCTIONS.md",
    "RELIABILITY.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LOG.md",
    "runs/README.md",
)
"""Pages outside docs/, by their place in the repository; on the site under project/."""

# Page of the reference -> files and the names in them whose docstrings it shows.
PARTS = {
    "Judging a loop": ("monitors/follower.py", ("Follower", "Judged", "follow")),
    "Inside a trainer": ("loop/callback/monitor.py", ("CollapseMonitor",)),
    "Its samples": ("loop/callback/generate.py", ("Generate",)),
    "Tables of a notebook": ("monitors/frames.py", ("from_frame", "from_arrays")),
    "The decision rule": ("monitors/decision/rule.py", ("DecisionRule",)),
    "A metric": ("monitors/base.py", ("Monitor", "RoundView", "Samples", "Reading")),
    "A guarded quantity": ("monitors/decision/declaration.py", ("GuardedQuantity",)),
    "A task": ("evals/tasks.py", ("Task", "PlainTask", "Problem", "Grader", "Capability")),
    "A rejection filter": ("loop/stages/filters.py", ("Filter", "Each")),
    "What a filter looks at": ("loop/stages/case.py", ("Case",)),
    "An engine": ("loop/engines/base.py", ("Engine",)),
    "An objective": ("loop/objectives/base.py", ("Objective",)),
    "A tracker": ("loop/trackers/base.py", ("Tracker",)),
    "A page of a tracker": ("loop/trackers/page.py", ("Page", "Memory", "bring_up_to_date")),
}
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Mkdocs' hook: add the pages that are not in docs/."""
    for uri, path in _elsewhere().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name, text in reference().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Mkdocs' hook: links as they are in the repository, turned to the site's pages."""
    uri = page.file.src_uri
    known = {path: uri for uri, path in _elsewhere().items()}
    home = _elsewhere().get(uri, ROOT / "docs" / uri).parent
    pieces = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    for place in range(0, len(pieces), 2):
        # Odd pieces are fenced: nothing in them is a link.
        pieces[place] = LINK.sub(lambda found: _turned(found, uri, home, known), pieces[place])
    return "".join(pieces)


def _turned(found: re.Match[str], uri: str, home: Path, known: dict[Path, str]) -> str:
    target = found["target"]
    if re.match(r"[a-z]+:", target):
        return found[0]
    path = Path(posixpath.normpath(home / target))
    docs = ROOT / "docs"
    place = known.get(path) or known.get(path / "README.md")
    if place is None and docs in path.parents and path.is_file():
        place = path.relative_to(docs).as_posix()
    if place is None:
        # A generated page, or nothing of the site.
        is_ours = target.startswith("reference/") or "/reference/" in target
        return found[0] if is_ours else found["text"]
    link = posixpath.relpath(place, posixpath.dirname(uri) or ".")
    return f"{found['image']}[{found['text']}]({link}{found['anchor'] or ''})"


def _elsewhere() -> dict[str, Path]:
    """Place on the site -> file of the repository outside docs/."""
    found = {f"project/{name.replace('/README', '')}": ROOT / name for name in PROJECT}
    for page in sorted((ROOT / "runs" / "experiments").glob("*/README.md")):
        name = page.parent.name
        found[f"experiments/{name}/index.md"] = page
        for beside in ("findings.md", "setting.md", "figure.svg"):
            if (page.parent / beside).is_file():
                found[f"experiments/{name}/{beside}"] = page.parent / beside
    return found


# -- the reference --------------------------------------------------------------------------------


def reference() -> dict[str, str]:
    """Name of each reference page -> its text."""
    return {
        "recipe": recipe_page(),
        "commands": commands_page(),
        "metrics": metrics_page(),
        "api": api_page(),
    }


def recipe_page() -> str:
    """Every key of a recipe, from its schema."""
    from ouroloop.loop.config.schema import keys
    from ouroloop.loop.config.task import SECTIONS

    kind_of = {section: kind for kind, section in SECTIONS.items()}
    sections: dict[str, list[str]] = {}
    for key in keys():
        title = key.name.partition(".")[0] if "." in key.name else "Of the run"
        if key.name.startswith("task."):
            title = f"task, of kind {kind_of[key.section]}"
        default = "needed" if key.required else f"`{_short(key.default)}`"
        row = f"| `{key.name}` | {default} | {_cell(key.description)} |"
        sections.setdefault(title, []).append(row)
    parts = ["# Recipe keys", "The same as JSON schema, for editors: `ouroloop schema`."]
    for title, rows in sections.items():
        parts.append(
            f"## {title}\n\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command with its options, as `--help` says them."""
    from ouroloop.loop.commands.parser import parser

    parts = ["# Commands", _help(parser())]
    for name, command in subcommands(parser()).items():
        parts.append(f"## ouroloop {name}\n\n{_help(command)}")
    return "\n\n".join(parts) + "\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Command -> its own parser, with those of `bench` by both words."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found[name] = inner
                found |= {f"{name} {more}": deep for more, deep in subcommands(inner).items()}
    return found


def metrics_page() -> str:
    """Every metric with what its readings are, and every guarded quantity with its tolerance."""
    from ouroloop.monitors.decision.guarded import GUARDED
    from ouroloop.monitors.registry import monitors_for

    parts = [
        "# Metrics and guarded quantities",
        "## Metrics",
        "A metric reports and never decides.",
    ]
    for name, monitor in monitors_for().items():
        parts.append(f"### {name}\n\n{markdown_of(type(monitor).__doc__ or '')}")
    parts.append("## Guarded quantities")
    parts.append(
        "A fall below the tolerance makes the run act ([MONITORS](../project/MONITORS.md))."
    )
    rows = [
        f"| `{quantity.id}` | `{quantity.tolerance}` | {quantity.default} |" for quantity in GUARDED
    ]
    parts.append("| id | key of its tolerance | default |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def api_page() -> str:
    """Classes and functions that somebody else's code uses, from their docstrings."""
    parts = ["# Python", "Read from the docstrings; the package is `ouroloop`."]
    for title, (file, names) in PARTS.items():
        parts.append(f"## {title}")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        module = f"ouroloop.{file.removesuffix('.py').replace('/', '.')}"
        # Parsed and not imported: torch alone would take longer than the rest of the site.
        nodes = {node.name: node for node in tree.body if hasattr(node, "name")}
        for name in names:
            parts.append(f"### {name}\n\nIn `{module}`.\n\n{markdown_of(_docstring(nodes[name]))}")
            parts += list(_methods(nodes[name]))
    return "\n\n".join(parts) + "\n"


def _methods(node: Any) -> Iterator[str]:
    for inner in getattr(node, "body", []):
        if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if inner.name.startswith("_") or not ast.get_docstring(inner):
            continue
        yield f"**`{inner.name}({ast.unparse(inner.args)})`**\n\n{markdown_of(_docstring(inner))}"


def _docstring(node: Any) -> str:
    return ast.get_docstring(node) or ""


def markdown_of(docstring: str) -> str:
    """A docstring in Google's style as Markdown: sections as lists."""
    text = textwrap.dedent(docstring.partition("\n")[2])
    lines = [docstring.partition("\n")[0].strip(), *text.splitlines()]
    out: list[str] = []
    for line in lines:
        section = re.fullmatch(r"(Args|Attributes|Returns|Raises|Source|Yields):", line.rstrip())
        entry = re.match(r" {4}(?P<name>\*{0,2}\w+): (?P<text>.*)", line)
        if section:
            out += ["", f"*{section[1]}*", ""]
        elif entry:
            out.append(f"- `{entry['name']}`: {entry['text']}")
        else:
            out.append(line if line.strip() else "")
    # Angle brackets and square ones of mathematics are text.
    return "\n".join(out).replace("<", "&lt;").replace("[", "\\[")


def _help(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help().rstrip()}\n```"


def _short(value: Any) -> str:
    shown = "null" if value is None else str(value)
    return _cell(shown if len(shown) <= 60 else f"{shown[:57]}...")


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())
