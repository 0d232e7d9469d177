"""What every section of a recipe has in common."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # `rounds: yes` would be one round.
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            # One of several kinds may be Annotated[int, ...], whose origin is int.
            kinds = {getattr(k, "__origin__", k) for k in (annotation, *get_args(annotation))}
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("expected a number")
        return value


class Extension(Section):
    """A part that is named in the recipe: a built-in one, an installed one, or `module:Name`.

    A plain string stands for `{use: that string}`.
    """

    use: str = Field(
        min_length=1,
        description=(
            "a built-in name, the name of an installed entry point, module:Name, or"
            " path/to/file.py:Name (relative to the recipe)"
        ),
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "keyword arguments that it is made with; strings that begin with ./, ../ or $NAME/ are"
            " paths, relative to the recipe"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A name, or a name with options."""
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(core_schema)]}


def _joined(value: Any) -> Any:
    """Servers of one model as one name: no address holds a blank."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return " ".join(value)
    return value


ModelName = Annotated[
    str,
    BeforeValidator(_joined),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""A checkpoint's name or folder, a server's address, or a list of addresses."""
