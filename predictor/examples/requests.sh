#!/usr/bin/env bash
# Every way to ask over HTTP, with curl: requests.sh [http://localhost:8080]
set -euo pipefail
server=${1:-http://localhost:8080}
cd "$(dirname "$0")"
clip=../demo_model/evaluation/en-001.opus

# KServe v1: JSON with base64
curl -sS --fail "$server/v1/models/sensevoice:predict" -H 'Content-Type: application/json' -d @v1.json
echo
# KServe v2: JSON with base64
curl -sS --fail "$server/v2/models/sensevoice/infer" -H 'Content-Type: application/json' -d @v2.json
echo
# KServe v2 with binary data: the JSON's length, then JSON and audio in one body
curl -sS --fail "$server/v2/models/sensevoice/infer" -H "Inference-Header-Content-Length: $(cat v2.bin.length)" \
  -H 'Content-Type: application/octet-stream' --data-binary @v2.bin
echo
# KServe v2, shortest: the body is one audio file
curl -sS --fail "$server/v2/models/sensevoice/infer" -H 'Inference-Header-Content-Length: 0' --data-binary "@$clip"
echo
# OpenAI: a form; response_format is json, text, srt, vtt or verbose_json
curl -sS --fail "$server/v1/audio/transcriptions" -F model=sensevoice -F "file=@$clip" \
  -F response_format=verbose_json -F 'timestamp_granularities[]=word' -F 'timestamp_granularities[]=segment'
echo
# OpenAI, as a stream: segments of a long file come while the rest is being transcribed
curl -sS --fail --no-buffer "$server/v1/audio/transcriptions" -F model=sensevoice -F "file=@$clip" -F stream=true
