"""Decisions: how large, how long, which languages; how to expand; from scratch or not; one model or several.

Every name is imported when it is first used: the command line reads `planning.request` and must not load the solvers.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babelscale.planning.baselines import Baseline
    from babelscale.planning.decision import Checkpoint, Decision, decide, solve_decision
    from babelscale.planning.design import training_design
    from babelscale.planning.expansion import CandidateLanguage, Expansion, expand, rank_candidates
    from babelscale.planning.optimiser.certificate import Certificate
    from babelscale.planning.partition import ModelPartition, partition_models, solve_partition
    from babelscale.planning.planner import plan, solve_plan
    from babelscale.planning.request import PlanRequest
    from babelscale.planning.result import Expected, Plan

_MODULES = {
    "Baseline": "baselines",
    "CandidateLanguage": "expansion",
    "Certificate": "optimiser.certificate",
    "Checkpoint": "decision",
    "Decision": "decision",
    "Expansion": "expansion",
    "Expected": "result",
    "ModelPartition": "partition",
    "Plan": "result",
    "PlanRequest": "request",
    "decide": "decision",
    "expand": "expansion",
    "partition_models": "partition",
    "plan": "planner",
    "rank_candidates": "expansion",
    "solve_decision": "decision",
    "solve_partition": "partition",
    "solve_plan": "planner",
    "training_design": "design",
}

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'babelscale.planning' has no attribute {name!r}")
    return getattr(importlib.import_module(f"babelscale.planning.{_MODULES[name]}"), name)
