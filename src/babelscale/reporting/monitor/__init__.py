"""Train a study, follow its runs while they train, estimate the time left, and export its logs."""
