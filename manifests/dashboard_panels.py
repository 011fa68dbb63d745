"""What Grafana's dashboard of the service shows: charts in rows, with their queries.

Rows follow a request through the predictor, then what surrounds it. ``$namespace`` is chosen in the
dashboard; ``$__rate_interval`` is Grafana's.
"""

from dataclasses import dataclass

POD = r'namespace="$namespace",pod=~"sensevoice-.*"'
"""Of metrics of the nodes and of Kubernetes, which know pods by name only."""

GPU_POD = r'exported_namespace="$namespace",exported_pod=~"sensevoice-.*"'
"""Of DCGM's exporter, whose own pod has the plain labels."""


@dataclass(frozen=True)
class Panel:
    """One chart.

    Attributes:
        unit: Grafana's name of it.
        queries: legend → PromQL.
        kind: ``timeseries``, or ``table`` for labels that tell more than a value.
        stacked: whether series add up to a whole.
        note: what a reader cannot know from the title.
    """

    title: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    stacked: bool = False
    note: str = ""


def rate(metric: str, by: str, labels: str = "") -> str:
    return f'sum by ({by}) (rate({metric}{{namespace="$namespace"{labels}}}[$__rate_interval]))'


def quantile(share: float, metric: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', labels)})"


def mean(metric: str) -> str:
    return f"{rate(f'{metric}_sum', 'namespace')} / {rate(f'{metric}_count', 'namespace')}"


def ours(metric: str, labels: str = "") -> str:
    return f'{metric}{{namespace="$namespace"{labels}}}'


def quantiles(metric: str) -> dict[str, str]:
    return {f"p{round(share * 100)}": quantile(share, metric) for share in (0.5, 0.95, 0.99)}


def tag_shares(kind: str) -> str:
    tags = "increase(" + ours("sensevoice_tags_total", f',kind="{kind}"') + "[1h])"
    return f"sum by (tag) ({tags}) / on () group_left sum({tags})"


def in_container(metric: str, labels: str = "") -> str:
    return f'{metric}{{{POD},container="kserve-container"{labels}}}'


def throttled_periods(which: str) -> str:
    return (
        f"sum by (pod) (rate({in_container(f'container_cpu_cfs_{which}_total')}[$__rate_interval]))"
    )


STAGES = ("decode", "queue", "batch", "inference")

PREDICTORS = ',deployment=~"sensevoice-(.+-)?predictor(-[0-9]+-deployment)?"'

ROWS: dict[str, list[Panel]] = {
    "Traffic": [
        Panel(
            "Requests by protocol",
            "reqps",
            {"{{protocol}}": rate("sensevoice_requests_total", "protocol")},
            stacked=True,
        ),
        Panel(
            "Requests that were not answered with a transcript",
            "reqps",
            {"{{outcome}} {{reason}}": rate("sensevoice_requests_total", "outcome, reason")},
            note="The outcome ok is there too, as the measure of the others.",
        ),
        Panel(
            "Failed and turned away",
            "percentunit",
            {
                "failed (5xx)": ours("namespace:sensevoice_faults:ratio_rate5m"),
                "turned away (429)": ours("namespace:sensevoice_rejections:ratio_rate5m"),
            },
        ),
        Panel(
            "Requests by model",
            "reqps",
            {
                "{{digest}}": (
                    "sum by (digest) ("
                    + rate("sensevoice_requests_total", "namespace, pod")
                    + " * on (namespace, pod) group_left (digest) max by (namespace, pod, digest) ("
                    + ours("sensevoice_model_info")
                    + "))"
                )
            },
            stacked=True,
            note="A rollout shows as one colour giving way to another.",
        ),
    ],
    "Latency": [
        Panel(
            "Request, 95 % are faster",
            "s",
            {"{{protocol}}": quantile(0.95, "sensevoice_request_seconds", "protocol")},
        ),
        Panel("Request, all protocols", "s", quantiles("sensevoice_request_seconds")),
        Panel(
            "Mean of each stage",
            "s",
            {stage: mean(f"sensevoice_request_{stage}_seconds") for stage in STAGES},
            note="batch is the time of the batches that a request was in; inference its own share of it.",
        ),
        Panel(
            "Each stage, 95 % are faster",
            "s",
            {stage: quantile(0.95, f"sensevoice_request_{stage}_seconds") for stage in STAGES},
        ),
    ],
    "Audio": [
        Panel(
            "Audio transcribed in a second",
            "s",
            {
                "{{pod}}": rate("sensevoice_audio_seconds_total", "pod"),
                "all, over five minutes": ours("namespace:sensevoice_audio_seconds:rate5m"),
            },
        ),
        Panel(
            "Real-time factor of requests",
            "none",
            quantiles("sensevoice_realtime_factor"),
            note="Seconds of a request for a second of its audio: 1 is as long as it lasts.",
        ),
    ],
    "Queue and batches": [
        Panel(
            "Audio that waits",
            "s",
            {
                "{{pod}}": ours("sensevoice_queue_audio_seconds"),
                "limit of {{pod}}": ours("sensevoice_queue_limit_seconds"),
            },
        ),
        Panel("Requests in work", "none", {"{{pod}}": ours("sensevoice_requests_running")}),
        Panel(
            "Batch fill",
            "percentunit",
            {
                **quantiles("sensevoice_batch_fill_ratio"),
                "last of {{pod}}": ours("sensevoice_batch_fill"),
            },
            note="Padded audio as a share of max_batch_seconds.",
        ),
        Panel("Clips in a batch", "none", quantiles("sensevoice_batch_clips")),
        Panel("Audio in a batch", "s", quantiles("sensevoice_batch_audio_seconds")),
    ],
    "Tags": [
        Panel("Languages", "percentunit", {"{{tag}}": tag_shares("language")}, stacked=True),
        Panel("Emotions", "percentunit", {"{{tag}}": tag_shares("emotion")}, stacked=True),
        Panel("Events", "percentunit", {"{{tag}}": tag_shares("event")}, stacked=True),
        Panel(
            "Drift against a week before",
            "percentunit",
            {"{{kind}}": ours("namespace_kind:sensevoice_tags:drift1w")},
            note="Share of the tags that would have to change to give last week's mix.",
        ),
    ],
    "Startup": [
        Panel(
            "Start by phase",
            "s",
            {"{{pod}} {{phase}}": ours("sensevoice_startup_seconds", ',phase!="total"')},
            stacked=True,
        ),
        Panel("Models", "none", {"": ours("sensevoice_model_info")}, kind="table"),
        Panel(
            "Replicas",
            "none",
            {
                "wanted": f"sum({ours('kube_deployment_spec_replicas', PREDICTORS)})",
                "available": f"sum({ours('kube_deployment_status_replicas_available', PREDICTORS)})",
            },
        ),
    ],
    "GPU": [
        Panel(
            "Memory of the predictor",
            "bytes",
            {"{{pod}} {{kind}}": ours("sensevoice_gpu_memory_bytes")},
            note="reserved is what PyTorch keeps; allocated what of it is in use.",
        ),
        Panel("GPU busy", "percent", {"{{exported_pod}}": f"DCGM_FI_DEV_GPU_UTIL{{{GPU_POD}}}"}),
        Panel(
            "GPU memory in use (MiB)",
            "mbytes",
            {"{{exported_pod}}": f"DCGM_FI_DEV_FB_USED{{{GPU_POD}}}"},
        ),
        Panel("GPU power", "watt", {"{{exported_pod}}": f"DCGM_FI_DEV_POWER_USAGE{{{GPU_POD}}}"}),
    ],
    "Resources": [
        Panel(
            "CPUs in use",
            "none",
            {
                "{{pod}}": "sum by (pod) (rate("
                + in_container("container_cpu_usage_seconds_total")
                + "[$__rate_interval]))"
            },
        ),
        Panel(
            "CPU throttled",
            "percentunit",
            {
                "{{pod}}": f"{throttled_periods('throttled_periods')} / {throttled_periods('periods')}"
            },
            note="Share of the scheduler's periods in which the container had to wait.",
        ),
        Panel(
            "Memory",
            "bytes",
            {
                "{{pod}}": in_container("container_memory_working_set_bytes"),
                "process in {{pod}}": ours(
                    "process_resident_memory_bytes", ',pod=~"sensevoice-.*"'
                ),
                "limit of {{pod}}": in_container(
                    "kube_pod_container_resource_limits", ',resource="memory"'
                ),
            },
        ),
        Panel(
            "Restarts in an hour",
            "none",
            {
                "{{pod}}": f"increase({in_container('kube_pod_container_status_restarts_total')}[1h])"
            },
        ),
    ],
}
