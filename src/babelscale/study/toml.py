"""A design as TOML text, for programs that write designs for people to read, change and run."""

import json
from collections.abc import Mapping
from typing import Any

from babelscale.study.design import Design


def to_toml(design: Design, about: str = "") -> str:
    """A design as a file that `design.load` reads; fields at their defaults are left out.

    Args:
        about: comment lines to put on top.
    """
    held = design.model_dump(mode="json", exclude_defaults=True)
    groups = held.pop("groups")
    sizes = held.pop("sizes")
    lines = [f"# {line}".rstrip() for line in about.splitlines()]
    lines += [f"{key} = {_value(value)}" for key, value in held.items() if not isinstance(value, dict)]
    for key, value in held.items():
        if isinstance(value, dict) and value:
            lines += ["", f"[{_key(key)}]", *(f"{_key(k)} = {_value(v)}" for k, v in value.items())]
    lines += ["", "[sizes]", *(f"{_key(name)} = {_value(size)}" for name, size in sizes.items())]
    for group in groups:
        lines += ["", "[[groups]]", *(f"{key} = {_value(value)}" for key, value in group.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Numbers, texts and booleans are written in TOML as in JSON; tables stand on one line, long lists on several."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list):
        parts = [_value(part) for part in value]
        whole = f"[{', '.join(parts)}]"
        return whole if len(whole) < 100 else "[\n" + "".join(f"  {part},\n" for part in parts) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1e6:
        return f"{value:.15g}" if "e" in f"{value:.15g}" else f"{int(value)}.0"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)
