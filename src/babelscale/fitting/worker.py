"""A process that fits: `python -m babelscale.fitting.worker FOLDER`, jobs as JSON lines in, fits as JSON lines out.

A process of its own rather than one of `multiprocessing`, which would run the caller's script a second time and unpack
what it is sent unchecked. The runs come from FOLDER; a job is {"law", "settings", "metric", "lr_state", "provenance"}.
"""

import json
import sys
from typing import Any

from babelscale import laws
from babelscale.errors import BabelscaleError, InputError
from babelscale.fitting.estimate import FitSettings, fit_observations
from babelscale.runs import Runs


def answer(runs: Runs, job: dict[str, Any]) -> dict[str, Any]:
    """The fit as its `to_dict`, or what was wrong."""
    try:
        law = laws.from_dict(job["law"])
        observations = runs.observations(
            job["target"], metric=job["metric"], lr_state=job["lr_state"], start=law.starts
        )
        return {"fit": fit_observations(law, observations, FitSettings(**job["settings"]), job["provenance"]).to_dict()}
    except BabelscaleError as error:
        return {"error": error.message, "hint": error.hint, "input": isinstance(error, InputError)}


def main() -> None:
    runs = Runs.read(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(runs, json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
