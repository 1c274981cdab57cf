"""Scaling laws and cross-lingual transfer for multilingual language models, and the decisions that follow from them.

Every public name is imported when it is first used, so that `import babelscale` takes next to no time.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babelscale import (
        charts,
        corpora,
        errors,
        importers,
        languages,
        laws,
        mixture,
        model,
        published,
        reporting,
        study,
        testing,
        training,
        transfer,
    )
    from babelscale.allocation import Allocation
    from babelscale.errors import InputError
    from babelscale.fitting import Comparison, Fit, Prediction, Profile, compare, fit, fit_many, profile, simulate
    from babelscale.importers import CheckResult, check, import_runs
    from babelscale.languages import Language
    from babelscale.mixture import Mixture
    from babelscale.planning import Decision, Expansion, ModelPartition, Plan, decide, expand, partition_models, plan
    from babelscale.runs import Runs
    from babelscale.transfer import TransferMatrix

__version__ = "0.1.0"

__all__ = [
    "Allocation",
    "CheckResult",
    "Comparison",
    "Decision",
    "Expansion",
    "Fit",
    "InputError",
    "Language",
    "Mixture",
    "ModelPartition",
    "Plan",
    "Prediction",
    "Profile",
    "Runs",
    "TransferMatrix",
    "charts",
    "check",
    "compare",
    "corpora",
    "decide",
    "errors",
    "expand",
    "fit",
    "fit_many",
    "import_runs",
    "importers",
    "languages",
    "laws",
    "mixture",
    "model",
    "partition_models",
    "plan",
    "profile",
    "published",
    "reporting",
    "simulate",
    "study",
    "testing",
    "training",
    "transfer",
]
_MODULES = {
    "Allocation": "allocation",
    "InputError": "errors",
    "Language": "languages",
    "Mixture": "mixture",
    "Runs": "runs",
    "TransferMatrix": "transfer",
    **dict.fromkeys(("Decision", "Expansion", "ModelPartition", "Plan"), "planning"),
    **dict.fromkeys(("decide", "expand", "partition_models", "plan"), "planning"),
    **dict.fromkeys(("Comparison", "Fit", "Prediction", "Profile"), "fitting"),
    **dict.fromkeys(("CheckResult", "check", "import_runs"), "importers"),
    **dict.fromkeys(("compare", "fit", "fit_many", "profile", "simulate"), "fitting"),
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(importlib.import_module(f"babelscale.{_MODULES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"babelscale.{name}")
    raise AttributeError(f"module 'babelscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
