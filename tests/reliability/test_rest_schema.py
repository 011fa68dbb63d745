"""The OpenAPI document, held against the server by schemathesis."""

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error, positive_data_acceptance
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from predictor.server.openapi import DOCUMENT

STRESS = os.environ.get("STRESS") == "1"
schema = schemathesis.openapi.from_path(DOCUMENT)

CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

SERVED = {"model_name": "sensevoice"}


@pytest.mark.promise("Answers are what the OpenAPI document says, whatever is asked")
@schema.parametrize()
@settings(
    max_examples=400 if STRESS else 15,
    deadline=None,
    database=None,
    derandomize=not STRESS,
    suppress_health_check=list(HealthCheck),
)
def test_answers_conform(case, demo_served, tried):
    tried["requests"] += 1
    # No schema tells which bytes are audio, or which hold the JSON that a header measures.
    excluded = [positive_data_acceptance]
    if case.path.endswith("/realtime"):
        excluded.append(negative_data_rejection)  # Plain HTTP is refused before anything is read.
    case.call_and_validate(base_url=demo_served.http, excluded_checks=excluded, timeout=60)
    if "model_name" in (case.path_parameters or {}):
        # What is generated names no model that there is; the rest of a request is seen by none.
        tried["requests"] += 1
        served = case.operation.Case(
            path_parameters={**case.path_parameters, **SERVED},
            query=case.query,
            headers=case.headers,
            cookies=case.cookies,
            body=case.body,
            media_type=case.media_type,
        )
        served.call_and_validate(base_url=demo_served.http, checks=CONFORMANCE, timeout=60)
