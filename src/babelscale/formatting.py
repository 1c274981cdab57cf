"""How numbers, intervals and tables of text are written for people, and how values become strict JSON for programs."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_COUNT_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
_RATE_UNITS = ((1e15, "PFLOP/s"), (1e12, "TFLOP/s"), (1e9, "GFLOP/s"))
_TIME_UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"))


def count(value: float | None) -> str:
    """Tokens or parameters in three figures: 12.3M, 4.56B (B is a thousand million), 789."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unlimited"
    if abs(value) < 0.5:
        return "0"
    for size, letter in _COUNT_UNITS:
        # From 999.5 on, three figures round up to 1000 of the smaller unit.
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{letter}" if abs(value) < 999.5 * size else f"{value / size:.0f}{letter}"
    return f"{value:.3g}"


def count_interval(pair: tuple[float, float] | None, missing: str = "") -> str:
    """Two counts, such as "1.2M to 3.4M"; `missing` without an interval, "unknown" where an end is not known."""
    if pair is None:
        return missing
    return "unknown" if any(map(math.isnan, pair)) else f"{count(pair[0])} to {count(pair[1])}"


def flops(value: float | None) -> str:
    """Compute in three figures: 1.2e21; empty for None."""
    return "" if value is None else f"{value:.3g}".replace("e+", "e")


def flop_rate(value: float) -> str:
    """FLOPs a second with a unit: 312 TFLOP/s."""
    return _in_units(value, _RATE_UNITS, (1.0, "FLOP/s"))


def file_size(value: float) -> str:
    """Bytes with a unit: 4.2 GB."""
    return _in_units(value, _BYTE_UNITS, (1e3, "kB"))


def duration(seconds: float) -> str:
    """A time in seconds, minutes, hours or days."""
    for size, unit in _TIME_UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float | None, form: str, missing: str = "") -> str:
    """A number in a Python format with a typographic minus sign; `missing` where it is None or not finite."""
    return missing if value is None or not math.isfinite(value) else minus(f"{value:{form}}")


def percent(share: float | None, sign: str = "") -> str:
    """A share of one in per cent, two decimals, without the per cent sign."""
    return "" if share is None else number(100 * share, f"{sign}.2f")


def interval(low: float, high: float, form: str = ".4f") -> str:
    """The two ends of an interval; "unknown" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    return f"{number(low, form, 'none')} to {number(high, form, 'none')}"


def minus(text: str) -> str:
    """The text with typographic minus signs in place of hyphens."""
    return text.replace("-", "−")


def plural(number: int, noun: str) -> str:
    """A count of things: "1 device", "2 devices"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def cell(value: Any) -> str:
    """The text of a table's cell; empty for None."""
    return "" if value is None else str(value)


def indented_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] | None = None
) -> list[str]:
    """The lines of `text_table`, two spaces from the left."""
    return [f"  {line.rstrip()}" for line in text_table(header, rows, numeric)]


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool] | None = None
) -> list[str]:
    """The lines of a table, two spaces between columns.

    Args:
        numeric: the columns that are set to the right (default: all but the first).
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    align = [str.rjust if right else str.ljust for right in numeric or [False, *[True] * (len(header) - 1)]]
    return [
        "  ".join(set_to(text, width) for set_to, text, width in zip(align, row, widths, strict=True))
        for row in (header, *rows)
    ]


def json_ready(value: Any) -> Any:
    """A value for strict JSON: tuples and arrays become lists, numbers that are not finite become None."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def fill_none(value: Any, absent: float) -> Any:
    """What `json_ready` gave, with a number in place of every None."""
    if isinstance(value, dict):
        return {key: fill_none(item, absent) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fill_none(item, absent) for item in value]
    return absent if value is None else value


def _in_units(value: float, units: Iterable[tuple[float, str]], smallest: tuple[float, str]) -> str:
    size, unit = next((each for each in units if value >= each[0]), smallest)
    return f"{value / size:.3g} {unit}"
