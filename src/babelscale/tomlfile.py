"""Writing TOML files that people read, change and give back."""

import json
from collections.abc import Mapping
from typing import Any


def toml_text(values: Mapping[str, Any], comment: str = "") -> str:
    """A TOML document: first the plain values, then a table for each mapping, then those for lists of mappings.

    Tables inside these are written in one line. None and empty mappings are left out.

    Args:
        comment: lines to put on top.
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    arrays = {key: value for key, value in values.items() if _is_array_of_tables(value)}
    lines += _pairs({key: value for key, value in values.items() if key not in tables and key not in arrays})
    for key, table in tables.items():
        if table:
            lines += ["", f"[{_key(key)}]", *_pairs(table)]
    for key, array in arrays.items():
        for table in array:
            lines += ["", f"[[{_key(key)}]]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in values.items() if value is not None]


def _value(value: Any) -> str:
    """Numbers, texts and booleans are written in TOML as in JSON; long lists take several lines."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_pairs(value))} }}"
    if isinstance(value, list | tuple):
        parts = [_value(part) for part in value]
        line = f"[{', '.join(parts)}]"
        return line if len(line) < 100 else "[\n" + "".join(f"  {part},\n" for part in parts) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1e6:
        return f"{value:.15g}" if "e" in f"{value:.15g}" else f"{int(value)}.0"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)
