"""Values of the chart around the predictor: namespace, hosts, what watches and what releases."""

from manifests.chart_schemas import HOST, NAME, QUANTITY, URL, integer, strings, text
from manifests.chart_values import MORE, Place, Value

ISSUERS = r"^(https?://[^\s/]+)"

NAMESPACE = (
    Value(
        "namespace.create",
        "Make the release's namespace, with the labels of the restricted Pod Security Standard. "
        "Unset: `helm template` writes it, `helm install` leaves it to `--create-namespace`.",
        {"type": "boolean", "examples": [False]},
        (Place("Namespace/sensevoice", ""),),
    ),
)


def _setting(path: str, description: str, schema: dict[str, object], place: str) -> Value:
    """A value that is a key of a ConfigMap of settings: ``ConfigMap's name/key``."""
    name, key = place.split("/")
    return Value(
        path, description, schema, (Place(f"ConfigMap/{name}", f"/data/{key}", create=True),)
    )


HOSTS = (
    Value(
        "host",
        "Name that clients call the service by: of Ingress, Gateway, DomainMapping or mesh.",
        text(HOST, "speech.example.org"),
        (
            Place("Ingress/sensevoice", "/spec/rules/*/host"),
            Place("Ingress/sensevoice", "/spec/tls/*/hosts/*", r"^(.+)$"),
            Place("Gateway/sensevoice", "/spec/listeners/name=http/hostname"),
            Place("Gateway/sensevoice", "/spec/listeners/name=https/hostname"),
            Place("DomainMapping/*", "/metadata/name"),
            Place(
                "AuthorizationPolicy/sensevoice",
                "/spec/rules/*/to/*/operation/hosts/*",
                r"(sensevoice\.example\.com)",
            ),
        ),
    ),
    Value(
        "grpcHost",
        "Name that gRPC clients call it by, at the Gateway.",
        text(HOST, "grpc.speech.example.org"),
        (Place("Gateway/sensevoice", "/spec/listeners/name=grpc/hostname"),),
    ),
    Value(
        "tls.clusterIssuer",
        "cert-manager's ClusterIssuer of the certificates.",
        text(NAME, "letsencrypt"),
        tuple(
            Place(each, "/metadata/annotations/cert-manager.io~1cluster-issuer")
            for each in ("Ingress/sensevoice", "Gateway/sensevoice")
        ),
    ),
    Value(
        "tls.secretName",
        "Secret of the host's certificate.",
        text(NAME, "speech-tls"),
        (
            Place("Ingress/sensevoice", "/spec/tls/*/secretName"),
            Place("Gateway/sensevoice", "/spec/listeners/name=https/tls/certificateRefs/*/name"),
        ),
    ),
    Value(
        "tls.grpcSecretName",
        "Secret of the gRPC host's certificate.",
        text(NAME, "speech-grpc-tls"),
        (Place("Gateway/sensevoice", "/spec/listeners/name=grpc/tls/certificateRefs/*/name"),),
    ),
    Value(
        "ingressTls.className",
        "IngressClass; its controller has to know nginx's annotations.",
        text(NAME, "nginx-internal"),
        (Place("Ingress/sensevoice", "/spec/ingressClassName"),),
    ),
    Value(
        "ingressTls.proxyBodySize",
        "Largest request body: four thirds of SENSEVOICE_MAX_AUDIO_BYTES and a mebibyte.",
        text(r"^[0-9]+[kmg]?$", "300m"),
        (
            Place(
                "Ingress/sensevoice",
                "/metadata/annotations/nginx.ingress.kubernetes.io~1proxy-body-size",
            ),
        ),
    ),
    Value(
        "gatewayTls.className",
        "GatewayClass.",
        text(NAME, "istio"),
        (Place("Gateway/sensevoice", "/spec/gatewayClassName"),),
    ),
    *(
        Value(
            f"{component}.namespace",
            f"Namespace of the {what}'s pods.",
            text(NAME, "edge"),
            (
                Place(
                    f"NetworkPolicy/{policy}",
                    "/spec/ingress/*/from/*/namespaceSelector/matchLabels/kubernetes.io~1metadata.name",
                ),
            ),
        )
        for component, what, policy in [
            ("ingressTls", "Ingress controller", "predictor-from-ingress"),
            ("gatewayTls", "Gateway", "predictor-from-gateway"),
        ]
    ),
    Value(
        "authApiKey.secretName",
        "Secret with the clients' API keys: each key's name is a client's.",
        text(NAME, "speech-clients"),
        (Place("SecurityPolicy/sensevoice-api-keys", "/spec/apiKeyAuth/credentialRefs/*/name"),),
    ),
    Value(
        "authMesh.issuer",
        "OpenID provider whose tokens are taken.",
        text(URL, "https://login.example.org"),
        (
            Place("RequestAuthentication/sensevoice", "/spec/jwtRules/*/issuer"),
            Place(
                "AuthorizationPolicy/sensevoice",
                "/spec/rules/*/from/*/source/notRequestPrincipals/*",
                ISSUERS,
            ),
        ),
    ),
    Value(
        "authMesh.audience",
        "Audience that tokens have to name.",
        text(r"^[\w.:/-]+$", "speech"),
        (Place("RequestAuthentication/sensevoice", "/spec/jwtRules/*/audiences/*", r"^(.+)$"),),
    ),
)

OBSERVED = (
    Value(
        "monitoring.labels",
        "More labels of PodMonitor and PrometheusRule, by which a Prometheus finds them.",
        strings({"release": "kube-prometheus-stack"}),
        tuple(
            Place(each, f"/metadata/labels/{MORE}")
            for each in ("PodMonitor/sensevoice-predictor", "PrometheusRule/sensevoice")
        ),
    ),
    Value(
        "monitoring.interval",
        "Between two scrapes.",
        text(r"^[0-9]+(s|m)$", "30s"),
        (Place("PodMonitor/sensevoice-predictor", "/spec/podMetricsEndpoints/*/interval"),),
    ),
    Value(
        "monitoring.namespace",
        "Namespace of Prometheus.",
        text(NAME, "observability"),
        tuple(
            Place(
                f"NetworkPolicy/{policy}",
                f"/spec/{way}/namespaceSelector/matchLabels/kubernetes.io~1metadata.name",
                r"^(monitoring)$",
            )
            for policy, way in [
                ("allow-prometheus", "ingress/*/from/*"),
                ("dcgm-exporter", "ingress/*/from/*"),
                ("pipeline-runs", "egress/*/to/*"),
            ]
        ),
    ),
    _setting(
        "tracing.endpoint",
        "What stores traces and takes OTLP over gRPC, as host:port, at port 4317 or 443.",
        text(r"^[\w.-]+:(4317|443)$", "jaeger.example.org:4317"),
        "tracing-settings/TRACES_ENDPOINT",
    ),
    _setting(
        "tracing.insecure",
        "It has no certificate that can be checked.",
        {"type": "boolean", "examples": [False]},
        "tracing-settings/TRACES_INSECURE",
    ),
    _setting(
        "logging.kafkaBrokers",
        "Kafka's brokers as host:port, separated by commas, at ports from 9092 to 9098.",
        text(r"^[\w.-]+:909[2-8](,[\w.-]+:909[2-8])*$", "kafka.example.org:9093"),
        "logging-settings/KAFKA_BROKERS",
    ),
    _setting(
        "logging.kafkaTls",
        "Whether the brokers are asked by TLS.",
        {"type": "boolean", "examples": [True]},
        "logging-settings/KAFKA_TLS",
    ),
    _setting(
        "logging.elasticsearchHosts",
        "Elasticsearch's URLs, separated by commas, at port 9200 or 443.",
        text(
            r"^https?://[\w.-]+:(9200|443)(,https?://[\w.-]+:(9200|443))*$",
            "https://search.example.org:9200",
        ),
        "logging-settings/ELASTICSEARCH_HOSTS",
    ),
)

QUOTA = tuple(
    Value(
        f"quota.{name}",
        f"{what} in the namespace, all together.",
        text(QUANTITY, "96"),
        tuple(Place("ResourceQuota/sensevoice", f"/spec/hard/{each}") for each in limits),
    )
    for name, what, limits in [
        ("cpu", "CPUs", ("requests.cpu", "limits.cpu")),
        ("memory", "Memory", ("requests.memory", "limits.memory")),
        ("gpus", "GPUs", ("requests.nvidia.com~1gpu",)),
        ("storage", "Storage", ("requests.storage",)),
        ("pods", "Pods", ("pods",)),
    ]
)

RELEASES = (
    _setting(
        "mlflow.artifactsDestination",
        "Bucket of the artifacts, with a path if wanted.",
        text(r"^[a-z0-9]+://\S+$", "s3://models/mlflow"),
        "mlflow-settings/MLFLOW_ARTIFACTS_DESTINATION",
    ),
    _setting(
        "mlflow.s3EndpointUrl",
        "Address of an object store that is not AWS: https, or port 8333 or 9000 of one in the cluster.",
        text(r"^(https://\S+|http://[\w.-]+:(8333|9000))$", "https://objects.example.org"),
        "mlflow-settings/MLFLOW_S3_ENDPOINT_URL",
    ),
    *(
        Value(
            f"mlflow.{field}",
            f"Secret with {what}.",
            text(NAME, "another-secret"),
            tuple(
                Place(
                    "Deployment/mlflow",
                    f"/spec/template/spec/containers/*/env/name={variable}/valueFrom/secretKeyRef/name",
                )
                for variable in variables
            ),
        )
        for field, what, variables in [
            (
                "adminSecret",
                "the first user's password and the key of the forms (password, secret-key)",
                ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
            ),
            (
                "artifactsSecret",
                "the object store's keys (access-key-id, secret-access-key); need not be there",
                ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            ),
        ]
    ),
    Value(
        "mlflow.storageSize",
        "Size of the database's volume, or of the trial's.",
        text(QUANTITY, "40Gi"),
        (
            Place(
                "StatefulSet/mlflow-postgresql",
                "/spec/volumeClaimTemplates/*/spec/resources/requests/storage",
            ),
            Place("PersistentVolumeClaim/mlflow", "/spec/resources/requests/storage"),
        ),
    ),
    Value(
        "pipelines.schedule",
        "When a release is submitted, as cron says it, in UTC.",
        text(r"^[0-9*,/A-Za-z -]+$", "30 4 * * 2"),
        (Place("CronJob/submit-release", "/spec/schedule"),),
    ),
    Value(
        "ui.replicas",
        "Pods of the page.",
        integer(1, 3),
        (Place("Deployment/sensevoice-ui", "/spec/replicas"),),
    ),
)

SURROUNDINGS = (*HOSTS, *OBSERVED, *QUOTA, *RELEASES)
