"""Options: every argument of a request is described once, and read alike from Python, a command and an address.

A request is a Pydantic model whose fields are declared with `option`: a default, one sentence of help, and the group,
label and flag under which it is shown. From the model come the signature and the docstring of a Python function
(`takes`), the options and the help of a command (`cli.options`), and the controls and API parameters of a page (`web`).
Values may be text as a command or an address gives it: `sw,yo` for a list, `sw=2,yo=1` for numbers by name.
"""

import functools
import inspect
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from babelscale.errors import InputError

Model = TypeVar("Model", bound=BaseModel)
P = ParamSpec("P")
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Web = Literal["form", "api", "hidden"]


class RequestModel(BaseModel):
    """Base of all requests: unknown options are refused, and a request does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
    groups: ClassVar[tuple[str, ...]] = ()  # in the order in which they are shown; others follow


@dataclass(frozen=True)
class Option:
    """One field of a request.

    Attributes:
        flag: its name in commands and addresses, with underscores.
        web: whether the page's form shows it, or the API alone takes it, or neither.
        command: whether the command takes it.
        choices: the values of a Literal with their labels. repeated: the command takes it several times.
    """

    name: str
    type: Any
    default: Any
    required: bool
    help: str
    group: str
    label: str
    flag: str
    web: Web
    command: bool
    choices: Mapping[str, str]
    repeated: bool
    example: str | None
    siblings: tuple["Option", ...] = ()

    @property
    def number(self) -> bool:
        """Whether one number is taken."""
        return required_type(self.type) in (int, float)

    @property
    def switch(self) -> bool:
        """Whether yes or no is taken."""
        return self.type is bool

    def help_with(self, label: Callable[["Option"], str]) -> str:
        """The help, with other options of the request named as the caller names them."""
        return functools.reduce(
            lambda text, each: text.replace(f"`{each.name}`", label(each)), self.siblings, self.help
        )


def option(
    default: Any,
    help: str,
    group: str = "",
    label: str = "",
    *,
    example: str | None = None,
    choices: Mapping[str, str] | None = None,
    flag: str = "",
    web: Web = "form",
    **more: Any,
) -> Any:
    """A field of a request beside its type; see `Option`.

    Args:
        default: `...` for a required field, which stands in `Annotated` so that type checkers know that it is required.
        more: `repeated` and `command` of `Option`, and the checks of `pydantic.Field`.
    """
    shown = {"group": group, "label": label, "flag": flag, "web": web, "choices": dict(choices or {})}
    shown |= {"repeated": more.pop("repeated", False), "command": more.pop("command", True)}
    examples = None if example is None else [example]
    return Field(default, description=help, examples=examples, json_schema_extra=shown, **more)


@functools.cache
def options_of(model: type[BaseModel]) -> Mapping[str, Option]:
    """The options of a request by the name of their field, group by group."""
    found: dict[str, Option] = {}
    for name, field in model.model_fields.items():
        shown: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        found[name] = Option(
            name=name,
            type=plain_type(field.annotation),
            default=None if field.is_required() else field.get_default(call_default_factory=True),
            required=field.is_required(),
            help=field.description or "",
            group=shown.get("group", ""),
            label=shown.get("label") or name.replace("_", " ").capitalize(),
            flag=shown.get("flag") or name,
            web=shown.get("web", "api"),
            command=shown.get("command", True),
            choices=shown.get("choices", {}),
            repeated=shown.get("repeated", False),
            example=str(field.examples[0]) if field.examples else None,
        )
    named = tuple(each for each in found.values() if any(f"`{each.name}`" in other.help for other in found.values()))
    found = {name: replace(each, siblings=named) for name, each in found.items()}
    groups = list(dict.fromkeys([*getattr(model, "groups", ()), *(each.group for each in found.values())]))
    return dict(sorted(found.items(), key=lambda pair: groups.index(pair[1].group)))


def plain_type(annotation: Any) -> Any:
    """An annotation without what `Annotated` adds."""
    if get_origin(annotation) is Annotated:
        return plain_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return functools.reduce(operator.or_, map(plain_type, get_args(annotation)))
    return annotation


def required_type(annotation: Any) -> Any:
    """A plain type without None."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation
    return functools.reduce(operator.or_, (each for each in get_args(annotation) if each is not NoneType))


def read(model: type[Model], values: Mapping[str, Any], label: Callable[[Option], str] | None = None) -> Model:
    """A request from values by field name, texts included.

    Args:
        label: how the caller names an option; by default by its field.

    Raises:
        InputError: an option is unknown, missing or wrong; it is named, and the hint says what it takes.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _refusal(model, error, label or (lambda each: each.name)) from None


def _refusal(model: type[BaseModel], error: ValidationError, label: Callable[[Option], str]) -> InputError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    known = options_of(model)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause
    if name not in known:
        return InputError(f"{short(name)}: no such option", hint=f"known: {', '.join(map(label, known.values()))}")
    each = known[name]
    if first["type"] == "missing":
        return InputError(f"{label(each)}: not given", hint=each.help_with(label))
    message = str(first["msg"]).removeprefix("Value error, ").replace("Input should", "should")
    if first["type"] == "greater_than":
        message = "should be a positive number"
    value = first["input"]
    text = repr(short(value)) if isinstance(value, str) else short(repr(value))
    example = f" (for example {each.example})" if each.example else ""
    return InputError(f"{label(each)} {text}: {message}", hint=f"{each.help_with(label).rstrip('.')}{example}")


def short(text: str) -> str:
    """A text that fits into a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def takes(model: Callable[P, Request]) -> Callable[[Callable[..., Answer]], Callable[P, Answer]]:
    """Turn a function of (..., request) into one that takes the request's options by name.

    Its signature lists the options, and a line `OPTIONS` of its docstring is replaced by their help. Parameters before
    the request are kept, with None as their default; one that is an option too may be given by its place.
    """
    known = options_of(model)  # pyright: ignore[reportArgumentType]

    def decorate(function: Callable[..., Answer]) -> Callable[P, Answer]:
        leading = [each.replace(default=None) for each in inspect.signature(function).parameters.values()][:-1]
        names = [each.name for each in leading]
        rest = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if each.required else each.default,
                annotation=each.type,
            )
            for each in known.values()
            if each.name not in names
        ]
        signature = inspect.signature(function).replace(parameters=[*leading, *rest])

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Answer:
            given = signature.bind(*arguments, **options).arguments
            values = [given.get(name) if name in known else given.pop(name, None) for name in names]
            return function(*values, read(model, given))  # pyright: ignore[reportArgumentType]

        call.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue]
        call.__doc__ = (function.__doc__ or "").replace("        OPTIONS\n", _documented(known, names))
        return call

    return decorate


def _documented(known: Mapping[str, Option], without: Sequence[str]) -> str:
    lines = [f"{each.name}: {each.help}" for each in known.values() if each.name not in without]
    wrapped = (textwrap.fill(line, 112, subsequent_indent="    ", break_long_words=False) for line in lines)
    return "".join(textwrap.indent(line, " " * 8) + "\n" for line in wrapped)


def parse_codes(value: Any) -> Any:
    """`sw,yo` as a tuple of codes, each once."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(value)) if isinstance(value, Sequence) else value


def parse_number(value: Any) -> Any:
    """Text as a number; an address turns the plus of 1e+21 into a space."""
    if isinstance(value, bool):
        raise ValueError("is not a number")
    if not isinstance(value, str):
        return float(value) if hasattr(value, "__float__") else value
    try:
        return float(value.strip().replace("e ", "e+"))
    except ValueError:
        raise ValueError(f"{short(value.strip())!r} is not a number") from None


def parse_numbers(value: Any) -> Any:
    """`sw=2,yo=1` as numbers by name; several such texts as one."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    if not isinstance(value, str):
        return {name: parse_number(number) for name, number in value.items()} if isinstance(value, Mapping) else value
    found: dict[str, float] = {}
    for part in value.split(",") if value else ():
        name, sign, number = part.partition("=")
        if not sign:
            raise ValueError("write numbers by name, such as sw=2,yo=1")
        found[name.strip()] = parse_number(number)
    return found


def _bound(value: Any) -> Any:
    return parse_numbers(value) if isinstance(value, Mapping) or "=" in str(value) else parse_number(value)


def _sizes(value: Any) -> Any:
    if isinstance(value, str):
        value = True if value == "atlas" else value.split(",")
    if value is None or isinstance(value, bool):
        return bool(value)
    try:
        return tuple(map(parse_number, value))
    except (TypeError, ValueError):
        raise ValueError("write atlas, or sizes such as 1e8,3e8,1e9") from None


Codes = Annotated[Sequence[str], BeforeValidator(parse_codes)]
Number = Annotated[float, BeforeValidator(parse_number), Field(allow_inf_nan=False)]
Positive = Annotated[float, BeforeValidator(parse_number), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(parse_number), Field(ge=0, allow_inf_nan=False)]
ByName = Annotated[Mapping[str, float], BeforeValidator(parse_numbers)]
Bound = Annotated[float | Mapping[str, float], BeforeValidator(_bound)]
Sizes = Annotated[bool | Sequence[float], BeforeValidator(_sizes)]
