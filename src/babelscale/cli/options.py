"""What commands share: their options, how they read lists and how they show results."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from babelscale.errors import InputError

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")]
Published = Annotated[bool, Parameter(negative="", help="Answer from the printed figures of the ATLAS study.")]
Out = Annotated[Path | None, Parameter(name="--out", help="Folder of the study (default studies/NAME).")]
Corpus = Annotated[str | None, Parameter(help="Folder of text by language, in place of the design's own source.")]
Only = Annotated[str | None, Parameter(help="Groups of the design, separated by commas (default all).")]
RecordsFile = Annotated[
    Path | None, Parameter(name="--records", help="File of `babelscale study records`: its runs count as finished.")
]
Seed = Annotated[int, Parameter(help="Seed of every resampling.")]


def codes_of(languages: str | None) -> list[str] | None:
    if languages is None:
        return None
    return [code.strip() for code in languages.split(",") if code.strip()]


def numbers(text: str | None, option: str) -> dict[str, float] | None:
    """`sw=2,yo=1` as numbers by language."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    try:
        return {code.strip(): float(number) for code, _, number in parts}
    except ValueError:
        raise InputError(f"{option} {text!r}", hint="write numbers by language, such as sw=2,yo=1") from None


def metric_of(name: str | None) -> Any:
    """A unit of losses, checked."""
    from babelscale.runs import METRICS

    if name is not None and name not in METRICS:
        raise InputError(f"--metric {name!r}", hint=f"one of {', '.join(METRICS)}")
    return name


def show(result: Any, as_json: bool, save: Path | None = None) -> None:
    if save is not None:
        result.save(save)
    sys.stdout.write((dumps(result.to_dict()) if as_json else str(result)) + "\n")


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def bar() -> Any:
    """A progress hook for long work, drawn on standard error where that is a terminal."""
    from babelscale.reporting.monitor.progress import Bar

    return Bar()
