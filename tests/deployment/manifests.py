"""The manifests of an overlay, as kustomize renders them, and the pods and services that come of them."""

import base64
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBECTL = Path(sys.executable).parent / "kubectl"
EXAMPLE_SECRETS = KUBERNETES / "overlays" / "production" / "secrets.example.yaml"

Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> str:
    """What `kubectl kustomize` prints for an overlay, and for production the Secrets that its operator brings."""
    command = [str(KUBECTL), "kustomize", str(KUBERNETES / "overlays" / overlay)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text + ("---\n" + EXAMPLE_SECRETS.read_text() if overlay == "production" else "")


def manifests_of(overlay: str) -> list[Manifest]:
    """The manifests of an overlay; the caller may change them."""
    return deepcopy(_parsed(overlay))


@cache
def _parsed(overlay: str) -> list[Manifest]:
    return [one for one in yaml.load_all(rendered(overlay), yaml.CSafeLoader) if one]


@dataclass(frozen=True)
class Pod:
    """A pod that will run, or one that an operator will run: then with its ports, and without a `spec`."""

    owner: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    spec: Mapping[str, Any]
    replicas_are_set: bool = False

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        """Its containers, those that run first included."""
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]


@dataclass(frozen=True)
class Service:
    """A name that clients find pods under, with the ports by name; `selector` is none when an operator made it."""

    name: str
    labels: Mapping[str, str]
    ports: Mapping[str, int]
    targets: Mapping[str, str | int]
    selector: Mapping[str, str] | None


def of(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    """Those of some kinds."""
    return [one for one in manifests if one["kind"] in kinds]


def name_of(manifest: Manifest) -> str:
    """How findings call it."""
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def pods_of(manifests: Sequence[Manifest]) -> list[Pod]:
    """Every pod that comes of the manifests."""
    pods = [_pod(one) for one in of(manifests, "Deployment", "StatefulSet", "Job")]
    for one in of(manifests, "RabbitmqCluster"):
        labels = {"app.kubernetes.io/name": one["metadata"]["name"], "app.kubernetes.io/component": "rabbitmq"}
        pods.append(Pod(name_of(one), labels, {"amqp": 5672, "management": 15672, "prometheus": 15692}, {}))
    for one in of(manifests, "Cluster"):
        labels = {"cnpg.io/cluster": one["metadata"]["name"], "cnpg.io/podRole": "instance"}
        pods.append(Pod(name_of(one), labels, {"postgresql": 5432, "status": 8000, "metrics": 9187}, {}))
    return pods


def services_of(manifests: Sequence[Manifest]) -> dict[str, Service]:
    """Every service, those that operators make included, by name."""
    services = [
        Service(
            one["metadata"]["name"],
            one["metadata"].get("labels", {}),
            {port["name"]: port["port"] for port in one["spec"]["ports"]},
            {port["name"]: port["targetPort"] for port in one["spec"]["ports"]},
            one["spec"]["selector"],
        )
        for one in of(manifests, "Service")
    ]
    services += [
        Service(one["metadata"]["name"], {}, {"amqp": 5672}, {}, None) for one in of(manifests, "RabbitmqCluster")
    ]
    services += [
        Service(f"{one['metadata']['name']}-rw", {}, {"postgres": 5432}, {}, None) for one in of(manifests, "Cluster")
    ]
    return {service.name: service for service in services}


def keys_of(manifests: Sequence[Manifest], kind: str) -> dict[str, dict[str, str]]:
    """What is in each ConfigMap or Secret, by name and key."""
    found = {}
    for one in of(manifests, kind):
        encoded = one.get("data", {})
        plain = (
            encoded if kind == "ConfigMap" else {key: base64.b64decode(text).decode() for key, text in encoded.items()}
        )
        found[one["metadata"]["name"]] = {**plain, **one.get("stringData", {})}
    return found


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, with both of its parts, holds for labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(expression, labels) for expression in selector.get("matchExpressions", []))


def probes_of(container: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The probes of a container, by kind."""
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if kind in container:
            yield kind, container[kind]


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case operator:
            raise ValueError(f"there is no operator {operator}")


def _pod(manifest: Manifest) -> Pod:
    template = manifest["spec"]["template"]
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", [])
    }
    labels = template["metadata"].get("labels", {})
    return Pod(name_of(manifest), labels, ports, template["spec"], "replicas" in manifest["spec"])
