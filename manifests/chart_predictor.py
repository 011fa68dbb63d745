"""Values of the chart that make the predictor: images, model, pods, scaling."""

from manifests.chart_schemas import DURATION, NAME, QUANTITY, URL, integer, items, strings, text
from manifests.chart_values import Place, Value

ISVC = "InferenceService/sensevoice"
RUNTIME = "ServingRuntime/sensevoice"
CONTAINER = "/spec/containers/name=kserve-container"
JOB_CONTAINERS = "/spec/template/spec/containers"
BOTH = ("requests", "limits")
CRON_POD = "/spec/jobTemplate/spec/template/spec"


def _image(prefix: str, what: str, fields: tuple[tuple[str, str], ...]) -> tuple[Value, ...]:
    def places(pattern: str, before: str = "") -> tuple[Place, ...]:
        return tuple(Place(each, pointer, pattern, prefix=before) for each, pointer in fields)

    return (
        Value(
            f"{prefix}.repository",
            f"Image of {what}, with its registry.",
            text(r"^[a-z0-9]+([._:/-]+[a-z0-9]+)*$", "registry.example.com/speech/image"),
            places(r"^(sensevoice-[a-z]+)"),
        ),
        Value(
            f"{prefix}.tag",
            "Its tag.",
            text(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", "9.9.9"),
            places(r"^sensevoice-[a-z]+(:[\w.-]+)$", ":"),
        ),
        Value(
            f"{prefix}.digest",
            "Its digest, in place of the tag.",
            text(r"^sha256:[0-9a-f]{64}$", "sha256:" + "0123456789abcdef" * 4),
            places(r"^sensevoice-[a-z]+(:[\w.-]+)$", "@"),
        ),
    )


IMAGES = (
    *_image("image", "the predictor", ((RUNTIME, f"{CONTAINER}/image"),)),
    *_image(
        "pipelinesImage",
        "the pipelines' steps, the model's fetching and the MLflow server",
        (
            ("Job/model-preload", f"{JOB_CONTAINERS}/*/image"),
            ("Deployment/mlflow", f"{JOB_CONTAINERS}/*/image"),
            ("Deployment/mlflow", "/spec/template/spec/initContainers/*/image"),
            ("CronJob/submit-release", f"{CRON_POD}/initContainers/*/image"),
            ("CronJob/submit-release", f"{CRON_POD}/initContainers/*/env/*/value"),
            ("CronJob/submit-release", f"{CRON_POD}/containers/*/image"),
        ),
    ),
    *_image("uiImage", "the page", (("Deployment/sensevoice-ui", f"{JOB_CONTAINERS}/*/image"),)),
)

MODEL = (
    Value(
        "storageUri",
        "Address of the prepared model, whose digest the preload Job and the pipelines print; "
        "`embedded` for the model within the image.",
        text(r"^(embedded|[a-z0-9]+://\S+)$", "pvc://model-cache/sensevoice-small/" + "ab" * 32),
        (
            Place(ISVC, "/spec/predictor/model/storageUri", omit="embedded"),
            Place("LocalModelCache/sensevoice-small", "/spec/sourceModelUri", omit="embedded"),
        ),
    ),
    Value(
        "modelCache.source",
        "Model to fetch: a hub's address, pinned to a commit.",
        text(
            r"^(modelscope|hf|https?|s3)://[^\s\"\\]+$",
            "hf://FunAudioLLM/SenseVoiceSmall@" + "1" * 40,
        ),
        (Place("Job/model-preload", f"{JOB_CONTAINERS}/name=preload/args/*", r"^(\w+://\S+)$"),),
    ),
    Value(
        "modelCache.storageClassName",
        "Storage class of the claim; it has to give ReadWriteMany. Empty: the cluster's default one.",
        text(NAME, "nfs"),
        (Place("PersistentVolumeClaim/model-cache", "/spec/storageClassName", create=True),),
    ),
    Value(
        "modelCache.size",
        "Size of the claim.",
        text(QUANTITY, "80Gi"),
        (Place("PersistentVolumeClaim/model-cache", "/spec/resources/requests/storage"),),
    ),
    Value(
        "modelCache.credentialsSecret",
        "Secret with the hubs' tokens (modelscope-token, huggingface-token); need not be there.",
        text(NAME, "hub-tokens"),
        (
            Place(
                "Job/model-preload",
                f"{JOB_CONTAINERS}/name=preload/env/*/valueFrom/secretKeyRef/name",
            ),
        ),
    ),
    Value(
        "localModelCache.size",
        "Largest size of a model on a node's disk.",
        text(QUANTITY, "5Gi"),
        (Place("LocalModelCache/sensevoice-small", "/spec/modelSize"),),
    ),
    Value(
        "localModelCache.storageLimit",
        "Room for models on each node's disk.",
        text(QUANTITY, "90Gi"),
        (
            Place("LocalModelNodeGroup/sensevoice", "/spec/storageLimit"),
            Place("LocalModelNodeGroup/sensevoice", "/spec/persistentVolumeSpec/capacity/storage"),
            Place(
                "LocalModelNodeGroup/sensevoice",
                "/spec/persistentVolumeClaimSpec/resources/requests/storage",
            ),
        ),
    ),
)

POD = (
    *(
        Value(
            f"resources.{name}",
            f"{what} of a predictor, as request and as limit: the pod stays Guaranteed.",
            text(QUANTITY, example),
            tuple(Place(RUNTIME, f"{CONTAINER}/resources/{each}/{name}") for each in BOTH),
        )
        for name, what, example in [("cpu", "CPUs", "6"), ("memory", "Memory", "24Gi")]
    ),
    Value(
        "gpu.count",
        "GPUs of a predictor; it uses one.",
        integer(1, 2),
        tuple(
            Place(RUNTIME, f"{CONTAINER}/resources/{each}/nvidia.com~1gpu", text=True)
            for each in BOTH
        ),
    ),
    Value(
        "nodeSelector",
        "Labels of the predictor's nodes, in place of the components'.",
        strings({"node.example.com/pool": "speech"}),
        (Place(RUNTIME, "/spec/nodeSelector", create=True),),
    ),
    Value(
        "tolerations",
        "Taints that the predictor's pods tolerate, in place of the components'.",
        items({"type": "object"}, [{"key": "speech", "operator": "Exists"}]),
        (Place(RUNTIME, "/spec/tolerations", create=True),),
    ),
    Value(
        "imagePullSecrets",
        "Secrets for the predictor's registry.",
        items(
            {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "additionalProperties": False,
            },
            [{"name": "registry"}],
        ),
        (Place(RUNTIME, "/spec/imagePullSecrets", create=True),),
    ),
    Value(
        "startupProbe.failureThreshold",
        "Failed probes, one each five seconds, after which a predictor that does not start is restarted.",
        integer(1, 240),
        (Place(RUNTIME, f"{CONTAINER}/startupProbe/failureThreshold"),),
    ),
)

SCALING = (
    Value(
        "minReplicas",
        "Fewest pods.",
        integer(0, 3),
        (Place(ISVC, "/spec/predictor/minReplicas"),),
    ),
    Value(
        "maxReplicas",
        "Most pods.",
        integer(1, 9),
        (Place(ISVC, "/spec/predictor/maxReplicas"),),
    ),
    Value(
        "scaleTarget",
        "Requests at once for each pod (Knative).",
        integer(1, 32),
        (Place(ISVC, "/spec/predictor/scaleTarget"),),
    ),
    Value(
        "timeoutSeconds",
        "Longest time of a request, at the service and at what stands before it. "
        "SENSEVOICE_GRACE_PERIOD_SECONDS should be shorter.",
        integer(1, 300),
        (
            Place(ISVC, "/spec/predictor/timeout"),
            *(
                Place(
                    "Ingress/sensevoice",
                    f"/metadata/annotations/nginx.ingress.kubernetes.io~1proxy-{each}-timeout",
                )
                for each in ("read", "send")
            ),
            *(
                Place("HTTPRoute/sensevoice-rest", f"/spec/rules/*/timeouts/{each}", r"^(\d+)s$")
                for each in ("request", "backendRequest")
            ),
        ),
    ),
    Value(
        "scaleToZero.scaleDownDelay",
        "How long pods stay when there is less to do.",
        text(DURATION, "15m"),
        (Place(ISVC, "/spec/predictor/annotations/autoscaling.knative.dev~1scale-down-delay"),),
    ),
    Value(
        "scaleToZero.podRetentionPeriod",
        "How long the last pod stays after the last request.",
        text(DURATION, "45m"),
        (
            Place(
                ISVC,
                "/spec/predictor/annotations/"
                "autoscaling.knative.dev~1scale-to-zero-pod-retention-period",
            ),
        ),
    ),
    Value(
        "scaleToZero.progressDeadline",
        "Time for a new revision's first pod to be ready.",
        text(DURATION, "3600s"),
        (Place(ISVC, "/spec/predictor/annotations/serving.knative.dev~1progress-deadline"),),
    ),
    Value(
        "standard.queueSeconds",
        "Seconds of waiting audio for each pod, which KEDA scales on.",
        integer(1, 30),
        tuple(
            Place(ISVC, f"/spec/predictor/autoScaling/metrics/*/external/target/{each}", text=True)
            for each in ("averageValue", "value")
        ),
    ),
    Value(
        "standard.prometheusAddress",
        "Prometheus that KEDA asks.",
        text(URL, "http://prometheus.example.com:9090"),
        (Place(ISVC, "/spec/predictor/autoScaling/metrics/*/external/metric/serverAddress"),),
    ),
    Value(
        "standard.terminationGracePeriodSeconds",
        "Time for a pod to end: more than 15 s and SENSEVOICE_GRACE_PERIOD_SECONDS together.",
        integer(1, 900),
        (Place(ISVC, "/spec/predictor/terminationGracePeriodSeconds"),),
    ),
    Value(
        "canary.trafficPercent",
        "The new revision's share of the users, in percent.",
        {"type": "integer", "minimum": 0, "maximum": 100, "examples": [25]},
        (Place(ISVC, "/spec/predictor/canaryTrafficPercent"),),
    ),
)

PREDICTOR = (*IMAGES, *MODEL, *POD, *SCALING)
