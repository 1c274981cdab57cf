"""Fitting: the optimum of a law on runs, its uncertainty, what the runs do not identify, and comparison of laws."""

from babelscale.fitting.comparison import Comparison, compare
from babelscale.fitting.estimate import FitSettings, fit, fit_observations
from babelscale.fitting.many import fit_many
from babelscale.fitting.profiles import Profile, profile
from babelscale.fitting.result import Fit, Prediction
from babelscale.fitting.simulation import simulate

__all__ = [
    "Comparison",
    "Fit",
    "FitSettings",
    "Prediction",
    "Profile",
    "compare",
    "fit",
    "fit_many",
    "fit_observations",
    "profile",
    "simulate",
]
