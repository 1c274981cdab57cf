"""Options that several commands share, and functions that parse lists and print results."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_origin

from cyclopts import Group, Parameter

from babelscale.errors import InputError
from babelscale.options import Option, RequestModel, options_of, read, required_type

Request = TypeVar("Request", bound=RequestModel)
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")]
Published = Annotated[bool, Parameter(negative="", help="Answer from the printed figures of the ATLAS study.")]
Table = Annotated[
    Path,
    Parameter(
        help="A folder of runs, the folder of a study, or one table (CSV, Parquet, JSON lines) with the columns "
        "params, tokens and loss."
    ),
]
Metric = Annotated[
    str | None,
    Parameter(
        help="Unit of the loss: bits_per_byte, nats_per_token or unigram_normalised (default: the first that the "
        "table has)."
    ),
]
Name = Annotated[
    str,
    Parameter(
        help="A built-in design (quickstart, laptop, single-gpu, atlas-2025, atlas-miniature), a TOML file, or the "
        "folder of a study."
    ),
]
Out = Annotated[Path | None, Parameter(name="--out", help="Folder of the study (default studies/NAME).")]
Corpus = Annotated[
    str | None, Parameter(help="Folder with the text of each language, used instead of the source in the design.")
]
Only = Annotated[str | None, Parameter(help="Groups of the design to include, separated by commas (default: all).")]
RecordsFile = Annotated[
    Path | None,
    Parameter(name="--records", help="A file that `babelscale study records` wrote. Its runs count as finished."),
]
Seed = Annotated[int, Parameter(help="Seed of the random number generator. The same seed gives the same result.")]


def takes_options(model: type[RequestModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with `**options` the options of a request; `read_options` makes the request of what they got."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        first, rest = [], []
        for each in own.parameters.values():
            if each.kind is not each.VAR_KEYWORD:
                (rest if each.kind is each.KEYWORD_ONLY else first).append(each)
        groups = list(dict.fromkeys(each.group for each in options_of(model).values()))
        made = [_parameter(each, groups.index(each.group) + 1) for each in options_of(model).values() if each.command]
        command.__signature__ = own.replace(parameters=[*first, *made, *rest])  # pyright: ignore[reportFunctionMemberAccess]
        return command

    return decorate


def _parameter(option: Option, order: int) -> inspect.Parameter:
    """An option as Cyclopts reads it; lists and numbers by name are texts, which the request parses."""
    kind = required_type(option.type)
    if option.repeated:
        kind = tuple[str, ...]
    elif kind not in (int, float, bool) and get_origin(kind) is not Literal:
        kind = str
    simple = kind in (int, float, bool) or get_origin(kind) is Literal
    default = option.default if simple or option.required else None
    group: dict[str, Any] = {"group": Group(option.group, sort_key=order)} if option.group else {}
    shown = Parameter(
        name=flag(option),
        help=option.help_with(flag),
        negative=None if option.default is True else "",
        show_default=None if simple else False,
        **group,
    )
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if option.required else default,
        annotation=Annotated[kind if default is not None else kind | None, shown],
    )


def flag(option: Option) -> str:
    return f"--{option.flag.replace('_', '-')}"


def read_options(model: type[Request], options: Mapping[str, Any]) -> Request:
    """The request of a command's options; those that were not given keep the request's defaults."""
    return read(model, {name: value for name, value in options.items() if value is not None}, flag)


Documented = TypeVar("Documented")


def one_line_descriptions(documented: Documented) -> Documented:
    """Put the description of each parameter on one line, so that only the width of the terminal breaks it."""
    text, heading, parameters = (inspect.getdoc(documented) or "").partition("\nParameters\n----------\n")
    joined = re.sub(r"(?m)^    .*(\n    .*)*", lambda lines: "    " + " ".join(lines[0].split()), parameters)
    documented.__doc__ = text + heading + joined
    return documented


def option_group(cls: type[Documented]) -> type[Documented]:
    """Make the fields of a frozen dataclass options of the commands that take one."""
    return Parameter(name="*")(one_line_descriptions(cls))


def codes_of(languages: str | None) -> list[str] | None:
    if languages is None:
        return None
    return [code.strip() for code in languages.split(",") if code.strip()]


def numbers(text: str | None, option: str) -> dict[str, float] | None:
    """Parse `sw=2,yo=1` into numbers by language."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    try:
        return {code.strip(): float(number) for code, _, number in parts}
    except ValueError:
        raise InputError(
            f"{option} {text!r} is not a list of numbers by name", hint="write for example sw=2,yo=1"
        ) from None


def metric_of(name: str | None) -> Any:
    """Return the unit of the loss, validated."""
    from babelscale.runs import METRICS

    if name is not None and name not in METRICS:
        raise InputError(f"--metric {name!r} is not a unit of the loss", hint=f"use one of {', '.join(METRICS)}")
    return name


def show(result: Any, as_json: bool, save: Path | None = None) -> None:
    if save is not None:
        result.save(save)
    sys.stdout.write((dumps(result.to_dict()) if as_json else str(result)) + "\n")


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def bar() -> Any:
    """A progress bar for long work, drawn on standard error if that is a terminal."""
    from babelscale.reporting.monitor.progress import Bar

    return Bar()


def read_runs(path: Path) -> Any:
    """Runs from a path; what may be wrong in them is said on standard error."""
    from babelscale.importers.checking import serious
    from babelscale.runs import Runs

    runs = Runs.read(path)
    for sentence in serious(runs):
        sys.stderr.write(f"{sentence}\n")
    return runs
