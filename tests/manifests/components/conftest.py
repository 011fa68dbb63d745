"""What tests of monitoring share: Prometheus's programs and the rules as files of its own."""

import shutil

import pytest
import yaml

from manifests.render import COMPONENTS


@pytest.fixture(scope="session")
def program():
    """The function that finds a program of Debian's package prometheus."""

    def find(name):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"no {name} on the PATH; Debian's package prometheus has it")
        return found

    return find


@pytest.fixture(scope="session")
def rule_groups():
    """Of the PrometheusRule."""
    text = (COMPONENTS / "monitoring" / "rules.yaml").read_text()
    return yaml.safe_load(text)["spec"]["groups"]


@pytest.fixture(scope="session")
def write_rules(rule_groups):
    """The function that writes ``rules.yaml`` into a folder, as Prometheus reads it, and gives its path."""

    def write(folder, annotations=True):
        groups = [
            {
                **group,
                "rules": [
                    {k: v for k, v in rule.items() if annotations or k != "annotations"}
                    for rule in group["rules"]
                ],
            }
            for group in rule_groups
        ]
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        return folder / "rules.yaml"

    return write
