"""Recipe, batches, loop, checkpoints, evaluation: how one run is trained."""
