"""The components, as switches of the Helm chart."""

from manifests.chart_builds import Component

MODES = "an InferenceService is either Knative's or a Deployment"

TABLE = (
    Component("gpu", "The predictor on one NVIDIA GPU for each pod."),
    Component(
        "scale-to-zero",
        "No pod without requests; long enough for a cold GPU node (Knative).",
        excludes={"standard": MODES},
    ),
    Component("standard", "Deployments of at least two pods, scaled by KEDA, instead of Knative."),
    Component(
        "canary",
        "A share of the users for a new revision, set by hand (Knative).",
        excludes={"standard": "KServe v0.20 ignores canaryTrafficPercent in Standard mode"},
    ),
    Component("model-cache", "A Job that fetches and prepares a model on the claim model-cache."),
    Component(
        "local-model-cache",
        "KServe's LocalModelCache: models on the disks of GPU nodes.",
        excludes={"model-cache": "the model is either on the claim or on the nodes' disks"},
    ),
    Component(
        "domain-tls",
        "A host with TLS by Knative's DomainMapping.",
        excludes={"standard": "a DomainMapping leads to a Knative Service"},
    ),
    Component("ingress-tls", "A host with TLS by an nginx Ingress and cert-manager."),
    Component(
        "gateway-tls", "Hosts with TLS for REST and gRPC by the Gateway API and cert-manager."
    ),
    Component("monitoring", "PodMonitor, recording rules, alerts and a Grafana dashboard."),
    Component(
        "dcgm-exporter", "NVIDIA's exporter of GPU metrics, where no GPU operator brings it."
    ),
    Component("tracing", "An OpenTelemetry collector, and traces sent to it."),
    Component("logging", "JSON logs through Filebeat and Kafka to Elasticsearch."),
    Component(
        "logging-trial",
        "Kafka, Elasticsearch and Kibana of one node each, for trials.",
        frozenset({"logging"}),
    ),
    Component("quota", "ResourceQuota, LimitRange and a PriorityClass."),
    Component("mlflow", "An MLflow server with PostgreSQL and an object store."),
    Component("mlflow-trial", "MLflow on SQLite and a volume, for trials.", frozenset({"mlflow"})),
    Component("pipelines", "What the pipelines' runs may do and mount; a recurring run."),
    Component("ui", "The demonstration page beside the service."),
    Component(
        "auth-api-key",
        "API keys, asked for by Envoy Gateway.",
        frozenset({"gateway-tls"}),
    ),
    Component("auth-mesh", "Mutual TLS and OpenID tokens, asked for by Istio."),
)
