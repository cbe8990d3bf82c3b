"""The manifests, given to a real API server as docs/operations.md says: where kube-apiserver and etcd are."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deployment.api_server import ApiServer, find_programs, open_api_server
from deployment.manifests import EXAMPLE_SECRETS, KUBERNETES, Manifest, manifests_of, name_of, of
from deployment.test_manifests import FAULTS, OVERLAYS, spoil

# A server takes some seconds to start, and more where others work.
pytestmark = pytest.mark.timeout(600)

STEPS = ("--selector", "app.kubernetes.io/component=step")
TRACKERS = ("--selector", "app.kubernetes.io/name=job-tracker")
OF_PODS = [fault for fault in FAULTS if fault["check"] == "restricted" and fault["in"] != "Namespace tallyho"]
OF_SCHEMAS = [fault for fault in FAULTS if fault["check"] == "accepted"]


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, overlay: str) -> Path:
    """A copy of the overlay for an operator to change, with what it refers to beside it."""
    copy = tmp_path_factory.mktemp("deploy") / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    return copy / "overlays" / overlay


@pytest.fixture(scope="module")
def server(overlay: str, folder: Path) -> Iterator[ApiServer]:
    """One that has accepted an overlay."""
    programs = find_programs()
    if programs is None:
        pytest.skip("no kube-apiserver and etcd on this machine: docs/operations.md says how to name them")
    with open_api_server(programs) as server:
        server.kubectl("apply", "--validate=strict", "--filename", KUBERNETES / "base" / "namespace.yaml")
        # Without controllers nobody makes it.
        server.kubectl("--namespace=tallyho", "create", "serviceaccount", "default")
        if overlay == "production":
            server.kubectl("apply", "--validate=strict", "--filename", EXAMPLE_SECRETS)
        server.kubectl("apply", "--validate=strict", "--server-side", "--dry-run=server", "--kustomize", folder)
        server.kubectl("apply", "--validate=strict", "--kustomize", folder)
        yield server


def test_server_has_every_manifest(server: ApiServer, overlay: str) -> None:
    manifests = manifests_of(overlay)

    assert len(server.kubectl("get", "--filename=-", "--output=name", given=manifests).splitlines()) == len(manifests)


def test_applying_again_would_change_nothing(server: ApiServer, folder: Path) -> None:
    assert server.kubectl("diff", "--kustomize", folder) == ""


def test_pod_of_every_template_is_admitted(server: ApiServer, overlay: str) -> None:
    templates = of(manifests_of(overlay), "Deployment", "StatefulSet", "Job")

    for one in templates:
        server.kubectl("create", "--validate=strict", "--filename=-", given=[pod_of(one)])
    assert len(templates) >= 6


@pytest.mark.parametrize("fault", OF_PODS, ids=lambda fault: fault["found"])
def test_pod_with_a_fault_is_refused(server: ApiServer, overlay: str, fault: dict[str, Any]) -> None:
    spoilt = spoil(manifests_of(overlay), fault)
    refused = server.try_kubectl("create", "--filename=-", given=[pod_of(spoilt)])

    assert refused.returncode != 0
    # Two are no valid pods to begin with.
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr or "is invalid" in refused.stderr


@pytest.mark.parametrize("fault", OF_SCHEMAS, ids=lambda fault: f"{fault['in']}: {fault['found']}")
@pytest.mark.parametrize("overlay", ["production"], indirect=True)
def test_manifest_with_a_fault_is_refused(server: ApiServer, fault: dict[str, Any]) -> None:
    spoilt = spoil(manifests_of("production"), fault)
    refused = server.try_kubectl("apply", "--validate=strict", "--dry-run=server", "--filename=-", given=[spoilt])

    assert refused.returncode != 0, name_of(spoilt)


def test_replicas_that_a_scaler_has_set_are_kept(server: ApiServer, overlay: str, folder: Path) -> None:
    server.kubectl("--namespace=tallyho", "scale", "deployment/crawler", "--replicas=4")
    server.kubectl("apply", "--kustomize", folder)
    replicas = server.kubectl("--namespace=tallyho", "get", "deployment/crawler", "--output=jsonpath={.spec.replicas}")

    assert replicas == {"production": "4", "local": "1"}[overlay]


def test_upgrade_runs_the_steps_again_and_then_all(server: ApiServer, folder: Path) -> None:
    raise_versions(folder)

    refused = server.try_kubectl("apply", "--kustomize", folder, *STEPS)
    assert "field is immutable" in refused.stderr

    server.kubectl("--namespace=tallyho", "delete", "job", *STEPS, "--ignore-not-found")
    steps = server.kubectl("apply", "--validate=strict", "--kustomize", folder, *STEPS).splitlines()
    assert steps == [f"job.batch/{name} created" for name in ("declare", "migrate-crawler", "migrate-job-tracker")]

    first = server.kubectl("apply", "--validate=strict", "--kustomize", folder, *TRACKERS)
    assert "deployment.apps/job-tracker configured" in first
    assert "crawler" not in first
    everything = server.kubectl("apply", "--validate=strict", "--kustomize", folder)
    assert "deployment.apps/crawler configured" in everything
    assert "job.batch/declare unchanged" in everything


def pod_of(manifest: Manifest) -> Manifest:
    """The pod that a controller would make of a template."""
    template = manifest["spec"]["template"]
    metadata = {**template["metadata"], "generateName": f"{manifest['metadata']['name']}-", "namespace": "tallyho"}
    volumes = [
        {"name": one["metadata"]["name"], "persistentVolumeClaim": {"claimName": one["metadata"]["name"]}}
        for one in manifest["spec"].get("volumeClaimTemplates", [])
    ]
    spec = {"restartPolicy": "Always", **template["spec"]}
    spec["volumes"] = [*spec.get("volumes", []), *volumes]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def raise_versions(folder: Path) -> None:
    """Set the next version of each image, as an operator does in an overlay of their own."""
    file = folder / "kustomization.yaml"
    written = file.read_text().replace("newTag: local", "newTag: next")
    if "images:" not in written:
        written += "images:\n" + "".join(
            f"  - {{name: ghcr.io/tallyho/{service}, newTag: 0.2.0}}\n"
            for service in ("crawler", "job-tracker", "ws-gateway")
        )
    file.write_text(written)
