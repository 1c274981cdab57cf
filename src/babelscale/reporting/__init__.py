"""Where the halves meet again: a study's walk, its report, and how it is run before a person's eyes.

Names are imported when they are first used: progress bars should not wait for SciPy and Altair.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babelscale.reporting.compose import report, write_report
    from babelscale.reporting.result import Walk
    from babelscale.reporting.walk import analyse

__all__ = ["Walk", "analyse", "report", "write_report"]

_HOMES = {"Walk": "result", "analyse": "walk", "report": "compose", "write_report": "compose"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"babelscale.reporting.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'babelscale.reporting' has no attribute {name!r}")
