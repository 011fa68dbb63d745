"""The v2 protocol as a protoset for grpcurl, on standard output."""

import sys

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from kserve.protocol.grpc import grpc_predict_v2_pb2

protocol = FileDescriptorSet()
grpc_predict_v2_pb2.DESCRIPTOR.CopyToProto(protocol.file.add())
sys.stdout.buffer.write(protocol.SerializeToString())
