"""Fitting: the optimum of a law on runs, its uncertainty, what the runs leave open, and which law to believe."""

from babelscale.fitting.estimate import Settings, fit, fit_many, fit_observations
from babelscale.fitting.result import Fit, Prediction

__all__ = ["Fit", "Prediction", "Settings", "fit", "fit_many", "fit_observations"]
