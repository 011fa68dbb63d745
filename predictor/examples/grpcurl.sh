#!/usr/bin/env bash
# KServe v2 over gRPC, with grpcurl (https://github.com/fullstorydev/grpcurl): grpcurl.sh [localhost:8081]
# The server has no reflection, so the protocol is taken from the kserve package, which must be installed.
set -euo pipefail
server=${1:-localhost:8081}
cd "$(dirname "$0")"
protoset=$(mktemp)
trap 'rm -f "$protoset"' EXIT
"${PYTHON:-python3}" protoset.py > "$protoset"
grpcurl -plaintext -protoset "$protoset" -d @ "$server" inference.GRPCInferenceService/ModelInfer < grpc.json
