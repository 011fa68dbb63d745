"""The KServe predictor: REST v1, REST v2 and gRPC v2 in front of ``predictor.engine``."""
