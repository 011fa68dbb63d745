"""The rollout's target in a cluster, a KServe InferenceService, and its meter of traffic, Prometheus."""
