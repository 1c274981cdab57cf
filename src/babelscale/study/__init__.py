"""Designs, the runs they expand to, and training what is missing of them."""

from babelscale.study.design import Design, built_in, load
from babelscale.study.spec import RunSpec
from babelscale.study.study import Study

__all__ = ["Design", "RunSpec", "Study", "built_in", "load"]
