"""Users' traffic by revision, as Prometheus counted it.

Read are the predictor's own metrics ``sensevoice_requests_total`` and ``sensevoice_request_seconds``. Their
series must carry ``namespace`` and, from the pods' labels, the revision: in Knative mode
``serving_knative_dev_revision`` (``serving.knative.dev/revision``), in Standard mode ``app``, which is
``isvc.`` and the Deployment's name. A PodMonitor with ``podTargetLabels`` sets them all.
"""

import json
import math
from typing import Any

import httpx

from pipelines.rollout.cluster.canary import DEPLOYMENT, pod_label
from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.target import Traffic, Unavailable

FAULTS = ("internal", "invalid_model", "not_ready")
"""Values of the label ``reason`` that the predictor answers with a status 5xx. A request of which it knows
no more than that the client left is not its fault."""

GROWTH = (
    "((max_over_time({series}[{window}]) unless {series} offset {window})"
    " or increase({series}[{window}]))"
)
"""Growth of counters. ``increase`` alone misses what a series was born with, such as the first error. The
largest value and not the last one, which a container that started again has begun anew."""

QUERY = """
label_replace(sum({requests}), "figure", "requests", "", "")
or label_replace(sum({errors}), "figure", "errors", "", "")
or label_replace(histogram_quantile(0.95, sum by (le) ({seconds})), "figure", "p95", "", "")
or label_replace(histogram_quantile(0.99, sum by (le) ({seconds})), "figure", "p99", "", "")
"""
"""All figures in one query, so that they speak of one moment."""


def query(namespace: str, revision: str, seconds: float) -> str:
    """PromQL for the traffic of the last ``seconds`` (rounded up) of a revision."""
    label, value = "serving_knative_dev_revision", revision
    if revision.endswith(DEPLOYMENT):
        label, value = "app", pod_label(revision)
    # A JSON string is a PromQL string.
    labels = f"namespace={json.dumps(namespace)},{label}={json.dumps(value)}"
    window = f"{math.ceil(seconds)}s"

    def growth(metric: str, more: str = "") -> str:
        return GROWTH.format(series=f"{metric}{{{labels}{more}}}", window=window)

    return QUERY.format(
        requests=growth("sensevoice_requests_total"),
        errors=growth("sensevoice_requests_total", f',reason=~"{"|".join(FAULTS)}"'),
        seconds=growth("sensevoice_request_seconds_bucket"),
    ).strip()


class PrometheusMeter:
    """Implements ``pipelines.rollout.target.TrafficMeter`` with Prometheus's HTTP API.

    Args:
        url: of the server, such as ``http://prometheus.monitoring:9090``.
        namespace: of the revisions.
        token: a bearer token, where the server asks for one.
        timeout_s: seconds until it counts as down.
    """

    def __init__(
        self, url: str, namespace: str, *, token: str | None = None, timeout_s: float = 10.0
    ) -> None:
        self._namespace = namespace
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        base_url = url.rstrip("/")
        self._client = httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s)

    def measure(self, revision: str, seconds: float) -> Traffic:
        """The last ``seconds`` of a revision; scrapes must be several times as frequent.

        Quantiles are interpolated in the metric's buckets.

        Raises:
            Unavailable: no answer in time, or a status 408, 429 or 5xx.
            ClusterError: the query is refused, something else than Prometheus answers, or the URL is none.
        """
        found = self._ask(query(self._namespace, revision, seconds))
        requests = round(found.get("requests", 0.0))
        return Traffic(
            requests=requests,
            errors=min(round(found.get("errors", 0.0)), requests),
            p95_s=found.get("p95") if requests else None,
            p99_s=found.get("p99") if requests else None,
        )

    def _ask(self, text: str) -> dict[str, float]:
        """Finite figures by name."""
        try:
            answer = self._client.post("/api/v1/query", data={"query": text})
        except httpx.UnsupportedProtocol as error:
            url = self._client.base_url
            raise ClusterError(
                f"Prometheus {url}: a URL begins with http:// or https://"
            ) from error
        except httpx.TransportError as error:
            url = self._client.base_url
            raise Unavailable(f"Prometheus {url}: {type(error).__name__}: {error}") from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Unavailable(_refusal(answer))
        if answer.status_code != 200:
            raise ClusterError(_refusal(answer))
        try:
            samples: list[dict[str, Any]] = answer.json()["data"]["result"]
            figures = {s["metric"]["figure"]: float(s["value"][1]) for s in samples}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ClusterError(f"{answer.url} answers, but not as Prometheus does") from error
        return {name: figure for name, figure in figures.items() if math.isfinite(figure)}


def _refusal(answer: httpx.Response) -> str:
    try:
        reason = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        reason = answer.text[:200]
    return f"Prometheus {answer.url}: {answer.status_code}: {reason}"
