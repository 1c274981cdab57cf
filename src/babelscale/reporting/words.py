"""How a report writes numbers and facts; a minus is a minus sign, what is unknown says so."""

import math
from collections.abc import Mapping
from typing import Any

from babelscale.charts import style


def corpus(facts: Mapping[str, Any]) -> str:
    """What a design says of its text, in a sentence or two."""
    told = str(facts.get("sentence") or facts.get("kind") or facts.get("source") or "not described").rstrip(".")
    parts = []
    if isinstance(sizes := facts.get("bytes_per_language"), dict) and all(sizes.values()):
        low, high = min(sizes.values()), max(sizes.values())
        parts.append(f"{count(low)} bytes a language" if low == high else f"{count(low)} to {count(high)} bytes each")
    if share := facts.get("held_out_share"):
        parts.append(f"{100 * float(share):.3g} % of it held out")
    if facts.get("seed") is not None:
        parts.append(f"seed {facts['seed']}")
    return f"{told}{' (' + ', '.join(parts) + ')' if parts else ''}."


def settings(facts: Mapping[str, Any]) -> str:
    """Short settings in one line, such as a tokenizer's."""
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if value not in (None, ""))


def score(helper: Any) -> str:
    """A helper's transfer score, or the bound that is known of it."""
    text = f"{helper.value:+.2f}" if math.isfinite(helper.value) else f"above {helper.low:+.2f}"
    return text.replace("-", "−")


def count(value: float | None) -> str:
    """Tokens or parameters in three figures."""
    return "unknown" if value is None or not math.isfinite(value) else style.human(value)


def flops(value: float | None) -> str:
    """Compute in FLOPs, three figures."""
    return "" if value is None else f"{value:.3g}".replace("e+", "e")


def duration(seconds: float) -> str:
    """A time in the unit that people would choose."""
    for size, unit in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def number(value: float | None, form: str) -> str:
    """A number in a format of its own, empty where there is none."""
    return "" if value is None or not math.isfinite(value) else f"{value:{form}}".replace("-", "−")


def percent(value: float | None, sign: str = "") -> str:
    """A share of one as per cent, without the sign for it."""
    return "" if value is None else number(100 * value, f"{sign}.2f")


def interval(low: float, high: float, form: str = ".4f") -> str:
    """Two ends of an interval, "unknown" where there is none."""
    if math.isnan(low) or math.isnan(high):
        return "unknown"
    return f"{number(low, form) or 'none'} to {number(high, form) or 'none'}"


def text(value: Any) -> str:
    """Anything as text, nothing as nothing."""
    return "" if value is None else str(value)
