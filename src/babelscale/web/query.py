"""Questions: what a page's address or a call of the API may ask, checked once, here.

Every question is a flat set of named texts, in the address of a page as in that of the API: `sw,yo` lists, `sw=2,yo=1`
numbers by language, `1e21` a number. So a page's address is its state, and the API's is the same with /api before it.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from babelscale.errors import InputError

# Longer texts than this are no question that a person asks.
_LONGEST = 8_000


class Query(BaseModel):
    """One question; the fields of a subclass are the parameters it takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """The question of an address; empty values count as left out.

        Raises:
            InputError: naming the field and what it takes.
        """
        given = {name: value.strip() for name, value in query.items() if value.strip()}
        for name, value in given.items():
            if len(value) > _LONGEST:
                raise InputError(f"{_short(name)}: {len(value)} characters", hint=f"{_LONGEST} at most")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise cls._refused(error) from None

    @classmethod
    def _refused(cls, error: ValidationError) -> InputError:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "question"
        if first["type"] == "extra_forbidden":
            return InputError(f"{_short(name)}: no such parameter", hint=f"known: {', '.join(cls.model_fields)}")
        if first["type"] == "missing":
            return InputError(f"{name}: not given", hint=cls.model_fields[name].description)
        said = str(first["msg"]).removeprefix("Value error, ")
        return InputError(f"{name}: {_short(str(first['input']))!r}: {said}", hint=cls.model_fields[name].description)

    @property
    def key(self) -> str:
        """The same for questions that ask the same."""
        return f"{type(self).__name__} {self.model_dump_json()}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _codes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _number(text: str) -> float:
    try:
        # An address turns the plus of 1e+21 into a space.
        value = float(text.strip().replace("e ", "e+"))
    except ValueError:
        raise ValueError(f"{_short(text.strip())!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text.strip()} is not a finite number")
    return value


def _by_language(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found: dict[str, float] = {}
    for part in value.split(","):
        code, sign, number = part.partition("=")
        if not sign:
            raise ValueError("write numbers by language, such as sw=2,yo=1")
        found[code.strip()] = _number(number)
    return found


def _bound(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return _by_language(value) if "=" in value else _number(value)


def _finite(value: Any) -> Any:
    return _number(value) if isinstance(value, str) else value


def _sizes(value: Any) -> Any:
    if not isinstance(value, str) or value == "atlas":
        return value
    return tuple(_number(part) for part in value.split(","))


Codes = Annotated[tuple[str, ...], BeforeValidator(_codes)]
Number = Annotated[float, BeforeValidator(_finite)]
Positive = Annotated[float, BeforeValidator(_finite), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_finite), Field(ge=0)]
ByLanguage = Annotated[dict[str, float], BeforeValidator(_by_language)]
Bound = Annotated[float | dict[str, float], BeforeValidator(_bound)]
Sizes = Annotated[str | tuple[float, ...], BeforeValidator(_sizes)]
