"""Decisions: how big, how long, which languages; how to expand; from scratch or not; one model or several."""

from babelscale.planning.baselines import Baseline
from babelscale.planning.decision import Checkpoint, Decision, decide
from babelscale.planning.design import training_design
from babelscale.planning.expansion import CandidateLanguage, Expansion, expand, rank_candidates
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.partition import ModelPartition, partition_models
from babelscale.planning.planner import plan
from babelscale.planning.result import Expected, Plan

__all__ = [
    "Baseline",
    "CandidateLanguage",
    "Certificate",
    "Checkpoint",
    "Decision",
    "Expansion",
    "Expected",
    "ModelPartition",
    "Plan",
    "decide",
    "expand",
    "partition_models",
    "plan",
    "rank_candidates",
    "training_design",
]
