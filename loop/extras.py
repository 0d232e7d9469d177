"""Which optional packages a command needs, and one sentence for when they are not installed.

The core is light: whoever judges traces with `ouroloop monitor` installs no torch. The other
packages come in extras (pyproject.toml), and only the commands that use them ask for them.
"""

from __future__ import annotations

from importlib.util import find_spec

from ouroloop.loop.errors import MissingExtraError

# Extra -> the modules that it brings. A test compares this table with pyproject.toml.
MODULES = {
    "report": ("jinja2", "matplotlib", "pandas"),
    "run": (
        "torch",
        "transformers",
        "trl",
        "accelerate",
        "datasets",
        "peft",
        "openai",
        "gguf",
    ),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "ray": ("ray",),
    "verify": ("math_verify", "reasoning_gym"),
}


def require(extra: str, purpose: str) -> None:
    """Refuse to start what cannot be finished here.

    Args:
        extra: A key of `MODULES`.
        purpose: What needs it, as a person would type it: "ouroloop report".

    Raises:
        MissingExtraError: at least one of the extra's modules is not installed.
    """
    # Looked for and not imported: torch alone takes seconds.
    missing = [module for module in MODULES[extra] if find_spec(module) is None]
    if missing:
        raise MissingExtraError(explain(purpose, missing, extra))


def extra_of(module: str | None) -> str | None:
    """The extra that brings a module, or None when no extra does."""
    top = (module or "").partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)


def explain(purpose: str, missing: list[str], extra: str) -> str:
    """What is missing, and the command that installs it."""
    verb = "is" if len(missing) == 1 else "are"
    return (
        f"{purpose} needs {', '.join(missing)}, which {verb} not installed:"
        f" pip install 'ouroloop[{extra}]'"
    )
