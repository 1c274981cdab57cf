"""Forecasts: what every law predicts for runs before they are trained, sealed by a hash, and scored afterwards."""

from babelscale.reporting.design.forecast.listing import Listed, Listing, listing
from babelscale.reporting.design.forecast.opening import Opened, open_forecast
from babelscale.reporting.design.forecast.seal import RESAMPLES, Sealed, seal

__all__ = ["RESAMPLES", "Listed", "Listing", "Opened", "Sealed", "listing", "open_forecast", "seal"]
