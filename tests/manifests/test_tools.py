"""Programs of ``make tools``."""

import subprocess

import pytest

from manifests.tools import ENV, HELM, KUBECTL, TOOLS, run


def test_kubectl_has_kustomize_and_helm_is_there():
    assert "Kustomize Version: v5" in run(KUBECTL, "version", "--client")
    assert run(HELM, "version", "--short").startswith("v4.1")


def test_a_program_that_is_not_there_says_how_to_get_it():
    with pytest.raises(FileNotFoundError, match=r"build/tools/bin/nothing is missing.*make tools"):
        run(TOOLS / "bin" / "nothing")


def test_a_program_that_fails_is_an_error(tmp_path, capfd):
    with pytest.raises(subprocess.CalledProcessError):
        run(KUBECTL, "kustomize", tmp_path)
    assert "kustomization.yaml" in capfd.readouterr().err


def test_checkers_share_an_environment():
    for program in ("checkov", "cyclonedx-py", "hadolint", "kubernetes-validate"):
        assert (ENV / program).is_file()
