"""A process that fits laws to the runs in FOLDER: `python -m babelscale.fitting.worker FOLDER`.

A job is {"law", "target", "settings", "metric", "lr_state", "provenance"}; its answer is the fit's `to_dict`.
"""

import sys
from typing import Any

from babelscale import laws, workers
from babelscale.fitting.estimate import FitSettings, fit_observations
from babelscale.runs import Runs


def main() -> None:
    runs = Runs.read(sys.argv[1])

    def answer(job: dict[str, Any]) -> dict[str, Any]:
        law = laws.from_dict(job["law"])
        observations = runs.observations(
            job["target"], metric=job["metric"], lr_state=job["lr_state"], start=law.starts
        )
        return fit_observations(law, observations, FitSettings(**job["settings"]), job["provenance"]).to_dict()

    workers.serve(answer)


if __name__ == "__main__":
    main()
