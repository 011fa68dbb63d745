"""A rollout's target on one machine: real predictor processes behind a proxy, kept by a daemon."""
