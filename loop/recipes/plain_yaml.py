"""YAML by hand to plain values; what could not be written down again is refused with its line."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any

import yaml


class _OneOfEach(yaml.SafeLoader):
    """YAML in which a key stands once: of two equal ones the first would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping.

        Raises:
            yaml.constructor.ConstructorError: a key stands twice, with both lines.
        """
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in lines:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"key {key!r} stands in line {lines[key]} and again in line {line}; remove one",
                )
            if isinstance(key, Hashable):
                lines[key] = line
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """A value.

        Raises:
            yaml.constructor.ConstructorError: it looks like a date or a number and is none.
        """
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{str(node.value)[:40]!r} cannot be read ({error}); put a text in quotes",
                node.start_mark,
            ) from None


def read_yaml(text: str) -> Any:
    """Plain YAML values.

    Raises:
        yaml.YAMLError: not YAML, a tag that would make an object, a key that stands twice, or a
            value that no JSON could hold.
    """
    try:
        value = yaml.load(text, Loader=_OneOfEach)  # a SafeLoader
        # Every recipe is kept as JSON. Dates become texts there.
        json.dumps(value, default=str)
    except RecursionError:
        raise yaml.YAMLError("lists or sections stand too deep in one another") from None
    except (TypeError, ValueError) as error:
        # An anchor within itself; a key that is a date; a number of thousands of digits.
        raise yaml.YAMLError(f"a value cannot be kept as JSON: {error}") from None
    return value
