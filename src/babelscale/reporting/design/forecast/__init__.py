"""Forecasts: what every law predicts for runs before they are trained, sealed by a hash and scored afterwards."""

from babelscale.reporting.design.forecast.score import Listed, Listing, Opened, listing, open_forecast
from babelscale.reporting.design.forecast.seal import RESAMPLES, Sealed, seal

__all__ = ["RESAMPLES", "Listed", "Listing", "Opened", "Sealed", "listing", "open_forecast", "seal"]
