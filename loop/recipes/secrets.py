"""Secrets of a recipe: used, but never stored, logged or shown.

A secret is the value of a key that is named like one (`hub_token`, `api_key`, `password`), or what
an address holds (`postgresql://user:password@host/runs`, `https://token@host`, `?token=`). Wherever
a recipe or a job is written, *** stands for it. Whoever reads it back takes the secret from an
environment variable that is named after its key, as child processes do; a recipe may have *** from
the beginning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ouroloop.loop.errors import RecipeError

MASK = "***"
PREFIX = "OUROLOOP_SECRET_"
# `token` alone and with these words before it: eos_token and pad_token are none.
_KEY = re.compile(
    r"(?:.*_)?(?:(?:hub|hf|auth|access|api|bearer|secret|session|refresh|id)_token|token"
    r"|api_?key|access_key(?:_id)?|secret(?:_key)?|private_key|password|passwd|credentials?"
    r"|authorization)",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(
    r"(?:bos|eos|pad|unk|sep|cls|mask|stop|image|video|audio|chat|tool|boi|eoi)_token",
    re.IGNORECASE,
)
# A password; a name alone before @ is a user of a database, but a token on the web.
_ADDRESS = re.compile(
    r"(?P<before>[A-Za-z][\w+.-]*://[^\s/:@]*:|https?://(?=[^\s/:@]+@))(?P<secret>[^\s/]+)(?=@)"
)
_QUERY = re.compile(r"(?P<before>[?&](?P<key>[\w-]+)=)(?P<secret>[^\s&#\"']+)")


def is_secret_key(key: str) -> bool:
    """Whether a key is named like one that holds a secret."""
    key = key.replace("-", "_")
    return _KEY.fullmatch(key) is not None and _NO_SECRET.fullmatch(key) is None


def variable(dotted: str) -> str:
    """The environment variable of a recipe key, OUROLOOP_SECRET_SFT_HUB_TOKEN of sft.hub_token."""
    return PREFIX + re.sub(r"\W", "_", dotted).upper()


def masked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values with *** for every secret."""
    return _changed(values, lambda dotted, secret: MASK)


def expose(values: Mapping[str, Any]) -> None:
    """Put the secrets into the environment of this process, where its children find them."""

    def keep(dotted: str, secret: str) -> str:
        if secret != MASK:
            os.environ[variable(dotted)] = secret
        return secret

    _changed(values, keep)


def unmasked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `masked`: secrets from the environment.

    Raises:
        RecipeError: the variable of one is not set.
    """

    def look_up(dotted: str, secret: str) -> str:
        if secret != MASK:
            return secret
        name = variable(dotted)
        if not os.environ.get(name):
            raise RecipeError(
                f"{dotted}: holds a secret, which is not stored with a run. Set the environment"
                f" variable {name} to it, e.g. `export {name}=...`, and try again."
            )
        return os.environ[name]

    return _changed(values, look_up)


def redacted(text: str) -> str:
    """A message or a traceback without secrets: those that were exposed, passwords in addresses."""
    known = [value for name, value in os.environ.items() if name.startswith(PREFIX)]
    # The longest first: one secret may be a part of another.
    for secret in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _in_address(text, lambda _: MASK)


def _changed(values: Mapping[str, Any], change: Callable[[str, str], str]) -> dict[str, Any]:
    return {key: _leaf(str(key), str(key), value, change) for key, value in values.items()}


def _leaf(dotted: str, key: str, value: Any, change: Callable[[str, str], str]) -> Any:
    """`value` with every secret in it replaced; dotted: where it stands in the recipe."""
    if isinstance(value, Mapping):
        return {k: _leaf(f"{dotted}.{k}", str(k), v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_leaf(f"{dotted}.{i}", key, item, change) for i, item in enumerate(value)]
    if not isinstance(value, str) or not value:
        return value
    if is_secret_key(key):
        return change(dotted, value)

    def changed(found: dict[str, str]) -> str:
        # A password and a token of one address are two secrets, in two variables.
        name = f"{dotted}.{found['key']}" if "key" in found else dotted
        return change(name, found["secret"])

    return _in_address(value, changed)


def _in_address(text: str, change: Callable[[dict[str, str]], str]) -> str:
    """`text` with the secrets of every address in it replaced; given are the parts of a match."""

    def replaced(found: re.Match[str]) -> str:
        parts = found.groupdict()
        if "key" in parts and not is_secret_key(parts["key"]):
            return found[0]
        return str(parts["before"]) + change(parts)

    return _QUERY.sub(replaced, _ADDRESS.sub(replaced, text))
