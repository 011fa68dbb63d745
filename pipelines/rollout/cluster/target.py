"""A KServe InferenceService as the target of a rollout."""

import logging
from typing import Any

from kubernetes import client, config
from urllib3 import Retry

from pipelines.rollout.cluster import knative, standard
from pipelines.rollout.cluster.errors import ClusterError, translated
from pipelines.rollout.cluster.events import COMPONENT, GROUP, event
from pipelines.rollout.cluster.inference_service import Document, Mode, is_standard
from pipelines.rollout.target import Conflict, Observed, ServedModel, Unavailable

logger = logging.getLogger(__name__)

KIND = {"group": "serving.kserve.io", "version": "v1beta1", "plural": "inferenceservices"}
TIMEOUT_S = (5.0, 30.0)
"""Seconds to connect, and between bytes of an answer; an admission webhook may take ten."""

RETRY = Retry(
    total=4,
    read=0,
    allowed_methods=None,
    backoff_factor=0.2,
    raise_on_status=False,
    retry_after_max=10,
)
"""Of connections refused, and of 429 and 503 with a Retry-After, which is waited for up to 10 s; never of
a request whose answer was lost, which may have been carried out."""


def connect(
    namespace: str, name: str, configuration: client.Configuration | None = None
) -> "ClusterTarget":
    """The InferenceService of that name.

    Args:
        configuration: where the API is; the pod's service account by default, else the kubeconfig.

    Raises:
        ClusterError: neither is there.
    """
    configuration = configuration or _found_configuration()
    configuration.retries = RETRY
    return ClusterTarget(namespace, name, client.ApiClient(configuration))


def _found_configuration() -> client.Configuration:
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            message = f"no cluster: not in a pod with a service account, and no kubeconfig: {error}"
            raise ClusterError(message) from error
    return configuration


def _mode(document: Document) -> Mode:
    if is_standard(document):
        return standard
    return knative


class ClusterTarget:
    """Implements ``pipelines.rollout.target.Target``; beside its errors, calls raise ``ClusterError``.

    Needs the verbs get and patch on inferenceservices (serving.kserve.io), and create on events
    (events.k8s.io) in the service's namespace.
    """

    def __init__(self, namespace: str, name: str, api: client.ApiClient) -> None:
        self.name = name
        self.namespace = namespace
        self._objects = client.CustomObjectsApi(api)

    def observe(self) -> Observed:
        """The service now.

        Raises:
            Unavailable: no answer, or one that may be better later.
            ClusterError: refused, or not a service that can be rolled out.
        """
        document = self._get()
        return _mode(document).read(document)

    def write(
        self, seen: Observed, *, state: str, percent: int | None, model: ServedModel | None = None
    ) -> Observed:
        """Write all of it in one patch, valid for ``seen.version`` alone.

        Raises:
            Conflict: the service has changed since ``seen``.
            Unavailable: no answer; the change may have been made.
            ClusterError: refused by the API, RBAC or an admission webhook.
        """
        now = self._get()
        if now["metadata"]["resourceVersion"] != seen.version:
            raise Conflict(f"InferenceService {self._path} changed since it was observed")
        body = _mode(now).change(now, seen, state=state, percent=percent, model=model)
        with translated("patch", KIND["group"], KIND["plural"], self._path):
            document = self._objects.patch_namespaced_custom_object(
                **KIND,
                namespace=self.namespace,
                name=self.name,
                body=body,
                field_manager=COMPONENT,
                field_validation="Strict",
                _request_timeout=TIMEOUT_S,
            )
        return _mode(self._checked(document)).read(document)

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        """An Event on the InferenceService; a failure to write it is logged."""
        try:
            body = event(self._get()["metadata"], reason, message, warning=warning)
            with translated("create", GROUP, "events", self._path):
                self._objects.create_namespaced_custom_object(
                    GROUP,
                    "v1",
                    self.namespace,
                    "events",
                    body,
                    field_manager=COMPONENT,
                    _request_timeout=TIMEOUT_S,
                )
        except Conflict:
            logger.debug("event %s on %s was told before", reason, self._path)
        except Exception as error:  # The rollout goes on without its events.
            logger.warning("event %s on %s was not written: %s", reason, self._path, error)

    @property
    def _path(self) -> str:
        return f"{self.namespace}/{self.name}"

    def _get(self) -> Document:
        with translated("get", KIND["group"], KIND["plural"], self._path):
            document = self._objects.get_namespaced_custom_object(
                **KIND, namespace=self.namespace, name=self.name, _request_timeout=TIMEOUT_S
            )
        return self._checked(document)

    def _checked(self, answer: Any) -> Document:
        """The client takes what is not JSON, such as a proxy's page or half an answer, for text."""
        if isinstance(answer, dict) and answer.keys() >= {"metadata", "spec"}:
            return answer
        raise Unavailable(
            f"InferenceService {self._path}: something else than the Kubernetes API answers, or a part "
            f"of its answer is missing ({len(str(answer))} characters)"
        )
