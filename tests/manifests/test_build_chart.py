"""The Helm chart renders what kustomize builds, and each of its values changes what it says."""

import copy
import functools
import json
import os
import random
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from manifests import build_chart, chart_components, chart_table, validate
from manifests.chart_builds import Builds, Component, key
from manifests.chart_injection import Injection
from manifests.chart_names import digest, named, stem
from manifests.chart_template import camel
from manifests.chart_values import MORE, Place, Value, spans
from manifests.render import OVERLAYS, SCENARIOS, folders
from manifests.schemas import Schemas
from manifests.tools import HELM, KUBECTL, run

COMPONENTS = [component.name for component in chart_components.TABLE]
VALUES = {value.path: value for value in chart_table.values()}
OF_FIELDS = [path for path, value in VALUES.items() if all(place.pointer for place in value.places)]
"""All but what makes the namespace, which has a test of its own."""


def helm(values, namespace="sensevoice"):
    """What ``helm template`` does with values."""
    arguments = [f"--set-json={path}={json.dumps(value)}" for path, value in values.items()]
    command = [HELM, "template", "sensevoice", build_chart.CHART, "--namespace", namespace]
    return subprocess.run(
        [*map(str, command), *arguments], capture_output=True, text=True, check=False
    )


def rendered(values, namespace="sensevoice"):
    done = helm(values, namespace)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.load_all(done.stdout, yaml.CSafeLoader) if each]


def switched(components):
    return {f"{camel(name)}.enabled": True for name in components}


@functools.cache
def with_components(components):
    """Objects of the chart with components on, generated names without digests."""
    return named(rendered(switched(components)))


def in_order(objects):
    """One text, so that a difference is shown by its line."""
    return yaml.dump_all(sorted(objects, key=key), Dumper=yaml.CSafeDumper)


@pytest.fixture(scope="session")
def chart():
    """The chart made anew, and kustomize's builds."""
    return build_chart.build()


@pytest.fixture(scope="session")
def worlds(chart):
    """The base, each component alone, and those that do something together."""
    return list(chart.builds.sample())


@pytest.fixture(scope="session")
def widest(chart):
    """Sets of as many components as go together."""
    return chart.builds.widest()


def test_the_chart_is_up_to_date(chart):
    there = {
        str(path.relative_to(build_chart.CHART)): path.read_text()
        for path in build_chart.CHART.rglob("*")
        if path.is_file()
    }
    assert there.keys() == chart.files.keys(), "run `python -m manifests.build_chart`"
    for path, text in chart.files.items():
        assert there[path] == text, f"{path} is old: run `python -m manifests.build_chart`"


def test_the_defaults_are_the_base(chart):
    assert in_order(rendered({})) == in_order(chart.builds.of([]))


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_is_the_base_with_it(chart, name):
    world = chart.builds.components.closure([name])
    assert in_order(rendered(switched(world))) == in_order(chart.builds.of(world))


@pytest.mark.parametrize("index", range(3))
def test_many_components_together_are_what_kustomize_makes_of_them(chart, widest, index):
    assert len(widest) == 3
    assert in_order(rendered(switched(widest[index]))) == in_order(chart.builds.of(widest[index]))


@pytest.mark.parametrize("seed", range(6))
def test_any_choice_of_components_is_what_kustomize_makes_of_it(chart, seed):
    choice = random.Random(seed)
    world = frozenset()
    for name in choice.sample(COMPONENTS, len(COMPONENTS)):
        wider = world | chart.builds.components.closure([name])
        if choice.random() < 0.5 and chart.builds.compatible(wider):
            world = wider
    assert in_order(rendered(switched(world))) == in_order(chart.builds.of(world))


def plain_scenarios():
    """Scenarios that choose components and patch nothing."""
    for folder in folders(SCENARIOS):
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
        if set(kustomization) == {"apiVersion", "kind", "resources", "components"}:
            components = [Path(each).name for each in kustomization["components"]]
            yield pytest.param(folder, components, id=folder.name)


@pytest.mark.parametrize(("folder", "components"), list(plain_scenarios()))
def test_a_scenario_is_its_switches(folder, components):
    built = yaml.load_all(run(KUBECTL, "kustomize", folder), yaml.CSafeLoader)
    assert in_order(rendered(switched(components))) == in_order(each for each in built if each)


ZEROS = "sha256:" + "0" * 64
PUSHED = {
    "image.repository": "registry.example/sensevoice-predictor",
    "pipelinesImage.repository": "registry.example/sensevoice-pipelines",
    "storageUri": f"pvc://model-cache/sensevoice-small/{'0' * 64}",
}
PINNED = {**PUSHED, "image.digest": ZEROS, "pipelinesImage.digest": ZEROS}


@pytest.mark.parametrize(
    ("overlay", "values"),
    [
        ("staging", {**PUSHED, "scaleTarget": 32, "minReplicas": 1, "maxReplicas": 2}),
        ("production", {**PINNED, "scaleTarget": 32, "maxReplicas": 4}),
        ("production-ha", PINNED),
    ],
)
def test_an_overlay_is_a_set_of_values(overlay, values):
    folder = OVERLAYS / overlay
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    components = [Path(each).name for each in kustomization["components"]]
    built = yaml.load_all(run(KUBECTL, "kustomize", folder), yaml.CSafeLoader)
    assert in_order(rendered(switched(components) | values)) == in_order(filter(None, built))


def with_place_set(objects, value, place):
    """The objects with the sample of a value at one of its places: what the chart has to render."""
    changed, count = copy.deepcopy(objects), 0
    for each in changed:
        for container, field in place.fields(each, stem(each)):
            before = container[field] if not isinstance(container, dict) else container.get(field)
            as_text = value.sample if isinstance(value.sample, str) else json.dumps(value.sample)
            if place.pattern is not None:
                for start, end in reversed(spans(place, before)):
                    container[field] = f"{before[:start]}{place.prefix}{as_text}{before[end:]}"
                    before, count = container[field], count + 1
                continue
            count += 1
            if field == MORE:
                container.update(value.sample)
            else:
                text = place.text or isinstance(before, str)
                container[field] = as_text if text else value.sample
    return changed, count


@pytest.mark.parametrize("path", OF_FIELDS)
def test_a_value_changes_what_it_says(worlds, path):
    value = VALUES[path]
    left = list(value.places)
    for world in worlds:
        before = with_components(world)
        here = [place for place in left if with_place_set(before, value, place)[1]]
        if not here:
            continue
        expected = before
        for place in value.places:
            expected, _ = with_place_set(expected, value, place)
        after = named(rendered({**switched(world), path: value.sample}))
        assert in_order(after) == in_order(expected)
        assert in_order(after) != in_order(before)
        left = [place for place in left if place not in here]
    assert not left


def test_the_embedded_model_needs_no_address():
    [service] = [
        each for each in rendered({"storageUri": "embedded"}) if each["kind"] == "InferenceService"
    ]
    assert "storageUri" not in service["spec"]["predictor"]["model"]


def test_the_namespace_is_the_releases(widest):
    names_it = re.compile(
        r"namespaces?(=~?|: )[\"']?sensevoice\b|metadata\.name: sensevoice\b"
        r"|[a-z0-9]\.sensevoice(\.svc|:\d)|/sensevoice_"
    )
    for world in widest:
        here = with_components(world)
        there = named(rendered(switched(world), "another-namespace"))
        text = in_order(there)
        assert not names_it.search(text)
        assert in_order(
            json.loads(json.dumps(there).replace("another-namespace", "sensevoice"))
        ) == in_order(here)


@pytest.mark.parametrize(("create", "expected"), [(None, 1), (True, 1), (False, 0)])
def test_the_namespace_is_made_where_nobody_else_does(create, expected):
    found = rendered({} if create is None else {"namespace.create": create})
    assert len([each for each in found if each["kind"] == "Namespace"]) == expected


def test_changed_settings_rename_their_config_map_as_kustomize_does(tmp_path):
    found = rendered({"settings.SENSEVOICE_LOG_LEVEL": "debug", "gpu.enabled": True})
    [settings] = [each for each in found if each["kind"] == "ConfigMap"]
    literals = [f"{name}={value}" for name, value in settings["data"].items()]
    generator = {"configMapGenerator": [{"name": "sensevoice-settings", "literals": literals}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(generator))
    made = yaml.safe_load(run(KUBECTL, "kustomize", tmp_path))
    assert settings["metadata"]["name"] == made["metadata"]["name"]
    assert settings["metadata"]["name"].endswith(digest(settings["data"]))
    [runtime] = [each for each in found if each["kind"] == "ServingRuntime"]
    reference = runtime["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
    assert reference == settings["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpu.enabled": "yes"}, "/gpu/enabled"),
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"settings.SENSEVOICE_VOLUME": 11}, "'SENSEVOICE_VOLUME' not allowed"),
        ({"settings.SENSEVOICE_MAX_QUEUE_SECONDS": 0}, "SENSEVOICE_MAX_QUEUE_SECONDS"),
        ({"settings.SENSEVOICE_PRECISION": "int4"}, "SENSEVOICE_PRECISION"),
        ({"minReplicas": -1}, "/minReplicas"),
        ({"image.repository": 'x"\nprivileged: "true'}, "/image/repository"),
        ({"timeoutSeconds": None}, "timeoutSeconds"),
        ({"host": "https://speech.example.org"}, "/host"),
    ],
)
def test_wrong_values_are_refused(values, message):
    done = helm(values)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize(
    ("components", "message"),
    [
        (("standard", "scale-to-zero"), "scaleToZero and standard cannot both be enabled"),
        (("standard", "canary"), "canary and standard cannot both be enabled"),
        (("model-cache", "local-model-cache"), "localModelCache and modelCache cannot both"),
        (("standard", "domain-tls"), "domainTls and standard cannot both be enabled"),
        (("mlflow-trial",), "mlflowTrial.enabled needs mlflow.enabled"),
        (("logging-trial",), "loggingTrial.enabled needs logging.enabled"),
        (("auth-api-key",), "authApiKey.enabled needs gatewayTls.enabled"),
    ],
)
def test_components_that_do_not_go_together_are_refused(components, message):
    done = helm(switched(components))
    assert done.returncode != 0
    assert message in done.stderr


def test_lint_finds_nothing():
    assert "1 chart(s) linted, 0 chart(s) failed" in run(
        HELM, "lint", "--strict", build_chart.CHART
    )


def test_the_notes_name_the_releases_namespace():
    command = [HELM, "install", "sensevoice", build_chart.CHART, "--dry-run=client"]
    text = run(*command, "--namespace", "speech", "--set=modelCache.enabled=true")
    _, _, notes = text.partition("NOTES:")
    assert "--namespace speech logs --follow job/model-preload" in notes


def test_the_readmes_commands_render(tmp_path):
    readme = (build_chart.CHART / "README.md").read_text()
    [values] = re.findall(r"```yaml\n# values.yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "values.yaml").write_text(values)
    lines = readme.replace("\\\n", " ").splitlines()
    commands = [line for line in lines if line.startswith(("helm install ", "helm upgrade "))]
    assert len(commands) == 3
    for command in commands:
        known = re.sub(r'"\$\(.*\)"', "pvc://model-cache/sensevoice-small/1", command)
        _, _, release, _, *arguments = shlex.split(known)
        done = subprocess.run(
            [HELM, "template", release, build_chart.CHART, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def with_all_values(widest):
    """Objects of the widest choices of components, with every value's sample."""
    fields = {path: VALUES[path].sample for path in OF_FIELDS}
    return [("chart", each) for world in widest for each in rendered(switched(world) | fields)]


def test_objects_with_values_are_valid(with_all_values):
    assert validate.built_in_problems(with_all_values) == []


def test_custom_resources_with_values_are_valid(with_all_values):
    folder = os.environ.get("CRD_SCHEMAS")
    if folder is None:
        pytest.skip("CRD_SCHEMAS names no folder of schemas")
    assert validate.custom_problems(with_all_values, Schemas(Path(folder))) == []


def test_a_component_that_the_table_does_not_have_is_named():
    with pytest.raises(ValueError, match="'gpu'"):
        Builds([each for each in chart_components.TABLE if each.name != "gpu"])


def test_a_component_that_changes_others_objects_is_refused(tmp_path, monkeypatch):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "kustomization.yaml").write_text("namespace: elsewhere\n")
    monkeypatch.setattr("manifests.chart_builds.COMPONENTS", tmp_path)
    with pytest.raises(ValueError, match="component far: `namespace`"):
        Builds([Component("far", "")])


def test_a_value_without_its_place_is_named(chart):
    value = Value("gone", "", {"type": "integer"}, (Place("Service/gone", "/spec/port"),))
    with pytest.raises(ValueError, match="gone: no build has"):
        Injection([value], {frozenset(): chart.builds.of([])})


def test_a_value_within_a_text_needs_a_pattern_of_its_own():
    with pytest.raises(ValueError, match="free goes into texts"):
        Value("free", "", {"type": "string"}, (Place("Service/x", "/spec/y", "^(z)$"),))
