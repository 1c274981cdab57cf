"""Recipe, batches, loop, checkpoints, evaluation: how one run is trained."""

# Names inside a run's folder; here, where reading them imports no JAX.
LOG, STATE, BRANCHES = "log.jsonl", "state", "branches"
