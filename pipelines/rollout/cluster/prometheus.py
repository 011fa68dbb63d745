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

FAULTS = ("internal", "invalid_model", "not_ready", "out_of_memory", "device_lost")
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
or label_replace(time() - max(timestamp({newest})), "figure", "age", "", "")
or label_replace(sum({errors}), "figure", "errors", "", "")
or label_replace(histogram_quantile(0.95, sum by (le) ({seconds})), "figure", "p95", "", "")
or label_replace(histogram_quantile(0.99, sum by (le) ({seconds})), "figure", "p99", "", "")
"""
"""All figures in one query, so that they speak of one moment. There is no ``age``, the seconds since the
newest sample, where no pod of the revision is scraped any more."""

INFO = "PromQL info"
"""Beginning of warnings that are none, in answers of Prometheus 2. Others say that a part is missing, such
as a store of Thanos that does not answer."""


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
        newest=f"sensevoice_requests_total{{{labels}}}",
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
        """The last ``seconds`` of a revision; scrapes must be several times as frequent: stale are figures
        without a sample in the later half.

        Quantiles are interpolated in the metric's buckets.

        Raises:
            Unavailable: no answer in time, a status 408, 429 or 5xx, an answer without a part of the data,
                or a count that is no number.
            ClusterError: the query is refused, something else than Prometheus answers, or the URL is none.
        """
        found = self._ask(query(self._namespace, revision, seconds))
        counted = [found.get(name, 0.0) for name in ("requests", "errors")]
        if not all(map(math.isfinite, counted)):
            url = self._client.base_url
            raise Unavailable(f"Prometheus {url}: the counts of {revision} are no numbers")
        requests = round(counted[0])
        return Traffic(
            requests=requests,
            errors=min(round(counted[1]), requests),
            p95_s=_finite(found.get("p95")) if requests else None,
            p99_s=_finite(found.get("p99")) if requests else None,
            stale=requests > 0 and not found.get("age", math.inf) <= seconds / 2,
        )

    def _ask(self, text: str) -> dict[str, float]:
        """Figures by name."""
        try:
            answer = self._client.post("/api/v1/query", data={"query": text})
        except httpx.UnsupportedProtocol as error:
            url = self._client.base_url
            raise ClusterError(
                f"Prometheus {url}: a URL begins with http:// or https://"
            ) from error
        except httpx.RequestError as error:
            url = self._client.base_url
            raise Unavailable(f"Prometheus {url}: {type(error).__name__}: {error}") from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise Unavailable(_refusal(answer))
        if answer.status_code != 200:
            raise ClusterError(_refusal(answer))
        try:
            told: dict[str, Any] = answer.json()
            samples: list[dict[str, Any]] = told["data"]["result"]
            warnings = [str(each) for each in told.get("warnings") or []]
            figures = {s["metric"]["figure"]: float(s["value"][1]) for s in samples}
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ClusterError(f"{answer.url} answers, but not as Prometheus does") from error
        missing = [each for each in warnings if not each.startswith(INFO)]
        if missing:
            raise Unavailable(
                f"Prometheus {answer.url}: not all is there: {'; '.join(missing)[:500]}"
            )
        return figures


def _finite(figure: float | None) -> float | None:
    return figure if figure is not None and math.isfinite(figure) else None


def _refusal(answer: httpx.Response) -> str:
    try:
        reason = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        reason = answer.text[:200]
    return f"Prometheus {answer.url}: {answer.status_code}: {reason}"
