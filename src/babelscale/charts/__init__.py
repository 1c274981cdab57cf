"""Charts, numbers first and ink second: each takes what the other rooms return and gives an Altair chart."""

from babelscale.charts.adding_languages import expansion
from babelscale.charts.laws import (
    EXPANDING_BY,
    HELD_OUT_BY,
    curve_rows,
    expanding,
    expanding_rows,
    held_out,
    law_curves,
    measured_predicted,
    prediction_rows,
)
from babelscale.charts.pairs import asymmetry, asymmetry_rows, transfer_along
from babelscale.charts.plans import decision, partition, plan, plan_baselines, plan_losses, plan_tokens
from babelscale.charts.profiles import profile, profile_rows, told_interval
from babelscale.charts.rankings import helpers, source_ranking, source_rows, target_ranking, target_rows
from babelscale.charts.residuals import AGAINST, residual_rows, residuals
from babelscale.charts.saving import save
from babelscale.charts.training import final_losses, learning_curves
from babelscale.charts.transfer import transfer_map
from babelscale.result import register_charts

register_charts(
    {
        "Comparison": held_out,
        "Decision": decision,
        "Expansion": expansion,
        "Fit": law_curves,
        "ModelPartition": partition,
        "Plan": plan,
        "Profile": profile,
        "Runs": final_losses,
        "TransferMatrix": transfer_map,
    }
)

__all__ = [
    "AGAINST",
    "EXPANDING_BY",
    "HELD_OUT_BY",
    "asymmetry",
    "asymmetry_rows",
    "curve_rows",
    "expanding",
    "expanding_rows",
    "final_losses",
    "held_out",
    "helpers",
    "law_curves",
    "learning_curves",
    "measured_predicted",
    "plan",
    "plan_baselines",
    "plan_losses",
    "plan_tokens",
    "prediction_rows",
    "profile",
    "profile_rows",
    "residual_rows",
    "residuals",
    "save",
    "source_ranking",
    "source_rows",
    "target_ranking",
    "target_rows",
    "told_interval",
    "transfer_along",
    "transfer_map",
]
