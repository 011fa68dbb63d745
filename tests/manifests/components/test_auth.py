"""Policies point at objects that are there, and leave open what probes, metrics and rollouts need."""

import fnmatch

import pytest

from predictor.server.settings import Settings

ISSUER = "https://issuer.example.com"


@pytest.fixture(scope="module")
def keys(compose):
    return compose("standard", "gateway-tls", "auth-api-key")


@pytest.fixture(scope="module")
def mesh(compose):
    return compose("domain-tls", "monitoring", "auth-mesh")


def named(objects, kind, namespace):
    [found] = [
        each
        for each in objects
        if each["kind"] == kind and each["metadata"]["namespace"] == namespace
    ]
    return found["spec"]


def test_keys_are_asked_for_on_all_routes(keys, pick):
    policy = pick(keys, "SecurityPolicy")
    [target] = policy["spec"]["targetRefs"]
    gateway = pick(keys, target["kind"], target["name"])
    assert gateway["apiVersion"].split("/")[0] == target["group"]
    assert gateway["metadata"]["namespace"] == policy["metadata"]["namespace"]
    assert "sectionName" not in target
    routes = [each for each in keys if each["kind"] in ("HTTPRoute", "GRPCRoute")]
    serving = [each for each in routes if any(r.get("backendRefs") for r in each["spec"]["rules"])]
    assert serving
    for route in serving:
        parents = {parent["name"] for parent in route["spec"]["parentRefs"]}
        assert parents == {target["name"]}, route["metadata"]["name"]


def test_keys_are_in_a_secret_and_end_at_the_gateway(keys, pick):
    asked = pick(keys, "SecurityPolicy")["spec"]["apiKeyAuth"]
    assert asked["sanitize"] is True
    assert asked["credentialRefs"] == [{"name": "sensevoice-api-keys"}]
    assert not [each for each in keys if each["kind"] == "Secret"]
    [source] = asked["extractFrom"]
    assert "authorization" in source["headers"]


def test_the_ways_past_the_gateway_stay_open_within_the_cluster(keys, pick):
    sources = [
        peer
        for rule in pick(keys, "NetworkPolicy", "predictor")["spec"]["ingress"]
        for peer in rule["from"]
    ]
    # The replay's pods, beside the predictor.
    assert {"podSelector": {}} in sources


def test_only_metrics_are_told_without_a_certificate(mesh, pick):
    peer = named(mesh, "PeerAuthentication", "sensevoice")
    assert peer["mtls"] == {"mode": "STRICT"}
    policy = named(mesh, "AuthorizationPolicy", "sensevoice")
    assert policy["action"] == "ALLOW"
    anyone = [rule for rule in policy["rules"] if "from" not in rule]
    assert anyone == [{"to": [{"operation": {"methods": ["GET"], "paths": ["/metrics"]}}]}]
    scraped = [
        each["portNumber"] for each in pick(mesh, "PodMonitor")["spec"]["podMetricsEndpoints"]
    ]
    opened = {
        port["port"]
        for rule in pick(mesh, "NetworkPolicy", "allow-prometheus")["spec"]["ingress"]
        for port in rule["ports"]
    }
    permissive = {
        int(port) for port, each in peer["portLevelMtls"].items() if each["mode"] == "PERMISSIVE"
    }
    assert {*scraped, Settings().http_port} <= permissive == opened


def test_knative_and_the_gateways_are_let_through(mesh, pick):
    policy = named(mesh, "AuthorizationPolicy", "sensevoice")
    [rule] = [rule for rule in policy["rules"] if "from" in rule]
    [source] = rule["from"]
    allowed = set(source["source"]["namespaces"])
    assert allowed == {pick(mesh, "Namespace", "sensevoice")["metadata"]["name"]} | {
        "istio-system",
        "knative-serving",
    }
    network = pick(mesh, "NetworkPolicy", "predictor")["spec"]["ingress"][0]["from"]
    [outer] = [each for each in network if "namespaceSelector" in each]
    [expression] = outer["namespaceSelector"]["matchExpressions"]
    assert {"istio-system", "knative-serving"} <= set(expression["values"])


def test_policies_of_the_mesh_choose_the_predictors_pods(mesh, pick):
    labels = pick(mesh, "NetworkPolicy", "predictor")["spec"]["podSelector"]
    for kind in ("PeerAuthentication", "AuthorizationPolicy"):
        assert named(mesh, kind, "sensevoice")["selector"] == labels
    predictor = pick(mesh, "InferenceService")["spec"]["predictor"]
    assert predictor["labels"] == {"sidecar.istio.io/inject": "true"}
    # The proxy's requests and limits are alike, as those of the class Guaranteed.
    proxy = {k: v for k, v in predictor["annotations"].items() if "sidecar.istio.io/proxy" in k}
    for name in ("CPU", "Memory"):
        key = f"sidecar.istio.io/proxy{name}"
        assert proxy[key] == proxy[f"{key}Limit"]


def test_outer_names_need_a_token_of_the_issuer_and_inner_ones_none(mesh, pick):
    token = named(mesh, "RequestAuthentication", "istio-system")
    policy = named(mesh, "AuthorizationPolicy", "istio-system")
    assert token["selector"] == policy["selector"]
    [rule] = token["jwtRules"]
    assert rule["issuer"] == ISSUER
    [denied] = policy["rules"]
    assert policy["action"] == "DENY"
    assert denied["from"] == [{"source": {"notRequestPrincipals": [f"{ISSUER}/*"]}}]
    [operation] = denied["to"]
    hosts = operation["operation"]["hosts"]

    def guarded(host: str) -> bool:
        return any(fnmatch.fnmatch(host, pattern) for pattern in hosts)

    outer = pick(mesh, "DomainMapping")["metadata"]["name"]
    for host in (outer, f"{outer}:443", f"latest.{outer}"):
        assert guarded(host), host
    for tag in ("", "latest-", "prev-"):
        assert not guarded(f"{tag}sensevoice-predictor.sensevoice.svc.cluster.local")
