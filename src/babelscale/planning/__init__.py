"""Decisions: how big, how long, which languages; how to expand; from scratch or not; one model or several."""

from babelscale.planning.additions import Addition, first_to_add
from babelscale.planning.baselines import Baseline
from babelscale.planning.certificate import Certificate
from babelscale.planning.configuration import training_design
from babelscale.planning.continuing import Checkpoint
from babelscale.planning.decision import Decision, decide
from babelscale.planning.expansion import Expansion, expand
from babelscale.planning.modular import Modular, modular
from babelscale.planning.planner import plan
from babelscale.planning.result import Expected, Plan

__all__ = [
    "Addition",
    "Baseline",
    "Certificate",
    "Checkpoint",
    "Decision",
    "Expansion",
    "Expected",
    "Modular",
    "Plan",
    "decide",
    "expand",
    "first_to_add",
    "modular",
    "plan",
    "training_design",
]
