"""Charts, numbers first and ink second: each takes what the other rooms return and gives an Altair chart."""

from babelscale.charts.adding_languages import expansion
from babelscale.charts.laws import (
    AGAINST,
    EXPANDING_BY,
    HELD_OUT_BY,
    curve_rows,
    describe_interval,
    expanding,
    expanding_rows,
    held_out,
    law_curves,
    measured_predicted,
    prediction_rows,
    profile,
    profile_rows,
    residual_rows,
    residuals,
)
from babelscale.charts.plans import decision, partition, plan, plan_baselines, plan_losses, plan_tokens
from babelscale.charts.saving import save
from babelscale.charts.training import final_losses, learning_curves
from babelscale.charts.transfer import (
    asymmetry,
    asymmetry_rows,
    helpers,
    source_ranking,
    source_rows,
    target_ranking,
    target_rows,
    transfer_along,
    transfer_map,
)
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
    "describe_interval",
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
    "transfer_along",
    "transfer_map",
]
