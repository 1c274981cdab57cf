"""What needs both halves of the package, in three parts.

- `report`: the analysis of a study's runs, and the report made from it.
- `monitor`: train a study and follow its runs.
- `design`: what a design can measure, which runs to train next, sealed forecasts.

Names are imported when they are first used, so that a progress bar does not wait for SciPy and Altair.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babelscale.reporting.report.build import build_report, write_report
    from babelscale.reporting.report.study_analysis import StudyAnalysis, analyse

__all__ = ["StudyAnalysis", "analyse", "build_report", "write_report"]

_MODULES = {
    "StudyAnalysis": "study_analysis",
    "analyse": "study_analysis",
    "build_report": "build",
    "write_report": "build",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"babelscale.reporting.report.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'babelscale.reporting' has no attribute {name!r}")
