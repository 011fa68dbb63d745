"""The one door to the kserve package: every name of it that the server uses.

Importing kserve parses ``sys.argv`` with a parser of its own, which takes any prefix of its flags for
the flag itself and ends the process over a value it does not like. So kserve is imported here alone,
with the command line out of sight.
"""

import sys

_argv, sys.argv = sys.argv, sys.argv[:1]
try:
    from kserve import InferOutput, InferResponse, Model, ModelServer
    from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
    from kserve.logging import KSERVE_LOG_CONFIG
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
    from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services
    from kserve.protocol.grpc.servicer import InferenceServicer
    from kserve.protocol.infer_type import RequestedOutput
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer
    from kserve.protocol.rest.v2_datamodels import InferenceRequest, InferenceResponse
finally:
    sys.argv = _argv

__all__ = [
    "KSERVE_LOG_CONFIG",
    "DataPlane",
    "InferOutput",
    "InferResponse",
    "InferenceRequest",
    "InferenceResponse",
    "InferenceServicer",
    "InvalidInput",
    "Model",
    "ModelNotFound",
    "ModelNotReady",
    "ModelRepositoryExtension",
    "ModelServer",
    "RESTServer",
    "RequestedOutput",
    "app",
    "messages",
    "services",
]
