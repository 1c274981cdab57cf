"""Designs, the runs they expand to, and training what is missing of them."""

from babelscale.study.design import CorpusPart, Design, Group, SizePart, TokenizerPart, built_in, load
from babelscale.study.spec import RunSpec
from babelscale.study.study import Study

__all__ = ["CorpusPart", "Design", "Group", "RunSpec", "SizePart", "Study", "TokenizerPart", "built_in", "load"]
