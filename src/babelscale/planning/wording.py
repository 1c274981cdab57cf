"""How a plan says its numbers: three figures and a unit."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from babelscale import files

_STEPS = ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(value: float) -> str:
    """12.3M, 4.56B, 789; B is a thousand million."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unlimited"
    if abs(value) < 0.5:
        return "0"
    for step, letter in _STEPS:
        if abs(value) >= step * 0.9995:
            return f"{value / step:.3g}{letter}" if abs(value) < 999.5 * step else f"{value / step:.0f}{letter}"
    return f"{value:.3g}"


def between(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"{count(pair[0])} to {count(pair[1])}"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Left-aligned first column, the others right-aligned, two spaces apart."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (header, *rows)
    ]


def plain(value: Any) -> Any:
    """For strict JSON: an infinite or unknown number becomes null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_json(path: str | Path, data: dict[str, Any]) -> Path:
    """Write one JSON file, atomically."""
    return files.write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
