"""Decisions: how big, how long, which languages; how to expand; from scratch or not."""

from babelscale.planning.decision import Decision, decide
from babelscale.planning.expansion import Expansion, expand
from babelscale.planning.planner import plan
from babelscale.planning.result import Expected, Plan

__all__ = ["Decision", "Expansion", "Expected", "Plan", "decide", "expand", "plan"]
