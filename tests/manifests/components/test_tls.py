"""Ways in: ingress-tls, gateway-tls, domain-tls."""

import re

import pytest

from predictor.server.settings import MIB, Settings

LIMITS = Settings()


@pytest.fixture
def timeout(compose, pick):
    return pick(compose(), "InferenceService")["spec"]["predictor"]["timeout"]


def test_nginx_takes_the_bodies_that_the_predictor_takes(compose, pick, timeout):
    ingress = pick(compose("ingress-tls"), "Ingress")
    prefix = "nginx.ingress.kubernetes.io/"
    annotations = {
        key.removeprefix(prefix): value
        for key, value in ingress["metadata"]["annotations"].items()
        if key.startswith(prefix)
    }
    size = int(re.fullmatch(r"(\d+)m", annotations["proxy-body-size"]).group(1)) * MIB
    assert LIMITS.max_body_bytes <= size < LIMITS.max_body_bytes + MIB
    assert int(annotations["proxy-read-timeout"]) == timeout
    assert int(annotations["proxy-send-timeout"]) == timeout
    assert annotations["force-ssl-redirect"] == "true"


def test_nginx_has_a_certificate_for_its_host(compose, pick):
    ingress = pick(compose("ingress-tls"), "Ingress")
    assert "cert-manager.io/cluster-issuer" in ingress["metadata"]["annotations"]
    [rule], [tls] = ingress["spec"]["rules"], ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    # KServe's Service in Standard mode, Knative's in the other: both have port 80.
    assert backend == {"name": "sensevoice-predictor", "port": {"number": 80}}


def test_the_gateway_redirects_http_and_ends_tls(compose, pick):
    objects = compose("standard", "gateway-tls")
    gateway = pick(objects, "Gateway")
    assert "cert-manager.io/cluster-issuer" in gateway["metadata"]["annotations"]
    listeners = {each["name"]: each for each in gateway["spec"]["listeners"]}
    assert listeners["http"]["protocol"] == "HTTP"
    redirect = pick(objects, "HTTPRoute", "sensevoice-redirect")["spec"]
    assert redirect["parentRefs"][0]["sectionName"] == "http"
    assert redirect["rules"][0]["filters"][0]["requestRedirect"]["scheme"] == "https"
    for name in ("https", "grpc"):
        assert listeners[name]["tls"]["mode"] == "Terminate"
    assert listeners["https"]["hostname"] != listeners["grpc"]["hostname"]


def test_the_gateway_waits_for_long_audio_and_leads_to_both_ports(compose, pick, timeout):
    objects = compose("standard", "gateway-tls")
    [rest] = pick(objects, "HTTPRoute", "sensevoice-rest")["spec"]["rules"]
    assert rest["timeouts"] == {"request": f"{timeout}s", "backendRequest": f"{timeout}s"}
    [grpc] = pick(objects, "GRPCRoute")["spec"]["rules"]
    assert grpc["backendRefs"] == [{"name": "sensevoice-predictor", "port": LIMITS.grpc_port}]


def test_the_domain_is_of_the_service_that_kserve_makes(compose, pick):
    mapping = pick(compose("domain-tls"), "DomainMapping")
    assert mapping["spec"]["ref"]["name"] == "sensevoice-predictor"
    assert "." in mapping["metadata"]["name"]
