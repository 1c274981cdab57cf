"""Scaling laws and cross-lingual transfer for multilingual language models, and the decisions that follow from them.

The public vocabulary; every name is imported when it is first used, so `import babelscale` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Allocation": "babelscale.allocation",
    "Fit": "babelscale.fitting",
    "InputError": "babelscale.errors",
    "Language": "babelscale.languages",
    "Mixture": "babelscale.mixture",
    "Plan": "babelscale.planning",
    "Runs": "babelscale.runs",
    "TransferMatrix": "babelscale.transfer",
    "compare": "babelscale.fitting",
    "decide": "babelscale.planning",
    "expand": "babelscale.planning",
    "fit": "babelscale.fitting",
    "fit_many": "babelscale.fitting",
    "partition_models": "babelscale.planning",
    "plan": "babelscale.planning",
    "profile": "babelscale.fitting",
    "simulate": "babelscale.fitting",
}
_ROOMS = (
    "charts",
    "corpora",
    "errors",
    "importers",
    "languages",
    "laws",
    "mixture",
    "model",
    "published",
    "reporting",
    "study",
    "training",
    "transfer",
)

__all__ = [*_HOMES, *_ROOMS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from babelscale import laws, mixture, published
    from babelscale.allocation import Allocation
    from babelscale.errors import InputError
    from babelscale.fitting import Fit, compare, fit, fit_many, profile, simulate
    from babelscale.languages import Language
    from babelscale.mixture import Mixture
    from babelscale.planning import Plan, decide, expand, partition_models, plan
    from babelscale.runs import Runs
    from babelscale.transfer import TransferMatrix


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"babelscale.{name}")
    raise AttributeError(f"module 'babelscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
