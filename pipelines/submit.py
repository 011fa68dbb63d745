"""``python -m pipelines.submit PIPELINE --host URL``: upload a compiled pipeline and run it on Kubeflow.

A package whose content was uploaded before is not uploaded again. The run is followed task by task; the
exit status is 0 where it succeeded. With ``--cron`` it becomes a recurring run instead.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import kfp
import yaml
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials
from kfp_server_api.exceptions import ApiException
from urllib3.exceptions import HTTPError

from pipelines.compile import COMPILED, PIPELINES

TOKEN = "KF_PIPELINES_TOKEN"  # noqa: S105  # the variable's name
"""Environment variable with a bearer token, for endpoints that ask for one. Where
``KF_PIPELINES_SA_TOKEN_PATH`` names a file, it is read again for each request: runs outlast a token."""

POLL_SECONDS = 5.0

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"}
"""``state`` of a run that will not change (KFP API v2beta1, RuntimeState)."""

Say = Callable[[str], None]


class InvalidParameter(ValueError):
    """Names the parameter and what the pipeline knows."""


class Package:
    """A compiled pipeline.

    Attributes:
        path: the YAML file.
        name: the pipeline's name.
        version: first 12 hexadecimal digits of the file's sha256.
        parameters: name → definition, with ``parameterType`` and ``defaultValue``.
    """

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.path = path
        self.version = hashlib.sha256(content).hexdigest()[:12]
        specification = next(yaml.safe_load_all(content))
        self.name: str = specification["pipelineInfo"]["name"]
        inputs = specification["root"].get("inputDefinitions", {})
        self.parameters: Mapping[str, Any] = inputs.get("parameters", {})

    def arguments(self, settings: Sequence[str]) -> dict[str, Any]:
        """``name=value`` texts → values of the parameters' types.

        Raises:
            InvalidParameter: not of that form, an unknown name, or a value of another type.
        """
        arguments = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals:
                raise InvalidParameter(f"{setting!r}: expected name=value")
            if name not in self.parameters:
                known = ", ".join(self.parameters)
                raise InvalidParameter(f"{self.name} has no parameter {name!r}; it has: {known}")
            arguments[name] = _value(name, text, self.parameters[name]["parameterType"])
        return arguments


def _value(name: str, text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    types: dict[str, type | tuple[type, ...]] = {
        "NUMBER_INTEGER": int,
        "NUMBER_DOUBLE": (int, float),
        "BOOLEAN": bool,
        "LIST": list,
        "STRUCT": dict,
    }
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidParameter(f"{name}: {error}") from error
    # To Python, a truth value is a number too.
    if not isinstance(value, types[kind]) or isinstance(value, bool) != (kind == "BOOLEAN"):
        raise InvalidParameter(f"{name}: {text!r} is not of type {kind}")
    return value


def upload(client: kfp.Client, package: Package, namespace: str | None) -> tuple[str, str]:
    """→ ids of the pipeline and of the version that holds this package."""
    pipeline_id = _find(client, package.name, namespace)
    if pipeline_id is None:
        created = client.upload_pipeline(str(package.path), package.name, namespace=namespace)
        pipeline_id = created.pipeline_id
    page = ""
    while True:
        answer = client.list_pipeline_versions(pipeline_id, page_token=page, page_size=100)
        for version in answer.pipeline_versions or []:
            if version.display_name == package.version:
                return pipeline_id, version.pipeline_version_id
        page = answer.next_page_token
        if not page:
            break
    uploaded = client.upload_pipeline_version(
        str(package.path), package.version, pipeline_id=pipeline_id
    )
    return pipeline_id, uploaded.pipeline_version_id


def _find(client: kfp.Client, name: str, namespace: str | None) -> str | None:
    """The pipeline's id in the profile; kfp's ``get_pipeline_id`` knows only what all profiles share."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    answer = client.list_pipelines(
        filter=json.dumps({"predicates": [predicate]}), namespace=namespace
    )
    found = answer.pipelines or []
    return str(found[0].pipeline_id) if found else None


def _credentials() -> ServiceAccountTokenVolumeCredentials | None:
    named = KF_PIPELINES_SA_TOKEN_ENV in os.environ
    return ServiceAccountTokenVolumeCredentials() if named else None


def follow(client: kfp.Client, run_id: str, say: Say) -> str:
    """Tell every change of a task's state until the run has ended → its state.

    An endpoint that does not answer is asked again: the run goes on without its follower.
    """
    told: dict[str, str] = {}
    while True:
        try:
            run = client.get_run(run_id)
        except (ApiException, HTTPError) as error:
            say(f"no answer, asking again: {error}")
        else:
            details = run.run_details.task_details if run.run_details else None
            for task in details or []:
                if task.state and told.get(task.task_id) != task.state:
                    told[task.task_id] = task.state
                    say(f"{task.display_name}: {task.state}")
            if run.state in ENDED:
                if run.error:
                    say(run.error.message)
                return str(run.state)
        time.sleep(POLL_SECONDS)


def submit(arguments: argparse.Namespace, say: Say) -> str:
    """Upload, run or schedule, and perhaps wait → the run's last known state."""
    package = Package(arguments.package or COMPILED / f"{arguments.pipeline}.yaml")
    parameters = package.arguments(arguments.set)
    client = kfp.Client(
        host=arguments.host,
        namespace=arguments.namespace or "kubeflow",
        existing_token=os.environ.get(TOKEN),
        credentials=_credentials(),
    )
    pipeline_id, version_id = upload(client, package, arguments.namespace)
    experiment = client.create_experiment(arguments.experiment, namespace=arguments.namespace)
    name = f"{package.name} {package.version}"
    if arguments.cron:
        recurring = client.create_recurring_run(
            experiment.experiment_id,
            name,
            cron_expression=arguments.cron,
            no_catchup=True,
            params=parameters,
            pipeline_id=pipeline_id,
            version_id=version_id,
            service_account=arguments.service_account,
        )
        say(f"{arguments.host.rstrip('/')}/#/recurringrun/details/{recurring.recurring_run_id}")
        return "SCHEDULED"
    run = client.run_pipeline(
        experiment.experiment_id,
        name,
        params=parameters,
        pipeline_id=pipeline_id,
        version_id=version_id,
        service_account=arguments.service_account,
    )
    say(f"{arguments.host.rstrip('/')}/#/runs/details/{run.run_id}")
    return follow(client, run.run_id, say) if arguments.wait else "SUBMITTED"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.submit", description=__doc__)
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("--host", required=True, help="Kubeflow Pipelines endpoint")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--namespace", help="profile, where Kubeflow has several users")
    parser.add_argument("--experiment", default="sensevoice")
    parser.add_argument("--service-account", help="of the steps' pods")
    parser.add_argument("--package", type=Path, help="compiled for this cluster's image")
    parser.add_argument("--cron", help="six fields: make it recurring, e.g. '0 0 3 * * 1'")
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args(words)
    try:
        state = submit(arguments, print)
    except (InvalidParameter, ApiException, HTTPError) as error:
        print(f"{type(error).__name__}: {error}")  # noqa: T201
        return 1
    print(state)  # noqa: T201
    return int(state in ENDED - {"SUCCEEDED"})


if __name__ == "__main__":
    raise SystemExit(main())
