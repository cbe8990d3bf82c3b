"""What no schema sees: that what a manifest names is there. Each check yields a line for each fault."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from deployment.manifests import (
    Manifest,
    Pod,
    keys_of,
    name_of,
    of,
    pods_of,
    probes_of,
    selects,
    services_of,
)

# Where each custom resource names a Secret, and the keys that its operator reads there.
SECRETS_OF: Mapping[str, Callable[[Mapping[str, Any]], list[tuple[str, str]]]] = {
    "User": lambda spec: [(spec["importCredentialsSecret"]["name"], key) for key in ("username", "password")],
    "TriggerAuthentication": lambda spec: [(one["name"], one["key"]) for one in spec["secretTargetRef"]],
    "ObjectStore": lambda spec: [(one["name"], one["key"]) for one in spec["configuration"]["s3Credentials"].values()],
    "Cluster": lambda spec: [
        (name, key)
        for name in (
            spec["bootstrap"]["initdb"]["secret"]["name"],
            *(role["passwordSecret"]["name"] for role in spec["managed"]["roles"]),
        )
        for key in ("username", "password")
    ],
}


def probes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Probes ask a port that their container opens, and liveness asks for nothing but the process."""
    for pod in pods_of(manifests):
        for container in pod.containers:
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for kind, probe in probes_of(container):
                asked = (probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
                if asked is not None and asked not in ports and asked not in ports.values():
                    yield f"{pod.owner}: the {kind} asks port {asked}, which {container['name']} does not open"
                if kind != "readinessProbe" and probe.get("httpGet", {}).get("path", "/healthz") != "/healthz":
                    yield f"{pod.owner}: the {kind} asks more than whether the process lives"
            for variable, port in (("HEALTH_PORT", "health"), ("GATEWAY_PORT", "http")):
                if (said := _environment(container).get(variable)) and said != str(ports.get(port)):
                    yield f"{pod.owner}: {variable} is {said}, but the port {port} is {ports.get(port)}"


def selectors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What owns pods selects its own; what spreads them, too; a Service selects some, by ports that they have."""
    for one in of(manifests, "Deployment", "StatefulSet"):
        template = one["spec"]["template"]
        labels = template["metadata"]["labels"]
        if not selects(one["spec"]["selector"], labels):
            yield f"{name_of(one)} does not select its own pods"
        for spread in template["spec"].get("topologySpreadConstraints", []):
            if not selects(spread["labelSelector"], labels):
                yield f"{name_of(one)} spreads other pods than its own"
    for service in services_of(manifests).values():
        if service.selector is None:
            continue
        selected = [pod for pod in pods_of(manifests) if selects({"matchLabels": service.selector}, pod.labels)]
        if not selected:
            yield f"Service {service.name} selects nothing"
        for target in service.targets.values():
            if any(target not in pod.ports and target not in pod.ports.values() for pod in selected):
                yield f"Service {service.name} leads to port {target}, which its pods do not open"


def configuration(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every ConfigMap, Secret, key, ServiceAccount and volume that is named exists, and none is there for nothing."""
    there = {kind: keys_of(manifests, kind) for kind in ("ConfigMap", "Secret")}
    used: dict[str, set[str]] = {"ConfigMap": set(), "Secret": set()}
    for owner, kind, name, key in _references(manifests):
        used[kind].add(name)
        if name not in there[kind]:
            yield f"{owner} needs {kind} {name}, which is not there"
        elif key is not None and key not in there[kind][name]:
            yield f"{owner} needs key {key} of {kind} {name}, which has none"
    for kind, names in used.items():
        for name in there[kind].keys() - names:
            yield f"nobody uses {kind} {name}"
    accounts = {one["metadata"]["name"] for one in of(manifests, "ServiceAccount")}
    for pod in pods_of(manifests):
        if pod.spec and pod.spec.get("serviceAccountName") not in accounts:
            yield f"{pod.owner} runs as a ServiceAccount that is not there"
        yield from _mounts(pod)


def secret_files(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Each variable NAME_FILE names a file that is mounted there."""
    for pod in pods_of(manifests):
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
        for container in pod.containers:
            files = {
                str(PurePosixPath(mount["mountPath"]) / file)
                for mount in container.get("volumeMounts", [])
                for file in _files_in(volumes.get(mount["name"], {}), manifests)
            }
            for variable, path in _environment(container).items():
                if variable.endswith("_FILE") and path not in files:
                    yield f"{pod.owner}: {variable} names {path}, where no file is mounted"


def addresses(manifests: Sequence[Manifest]) -> Iterator[str]:
    """The addresses in Secrets are those of Services, at ports that these have."""
    services = services_of(manifests)
    for secret, keys in keys_of(manifests, "Secret").items():
        for key, text in keys.items():
            if "://" not in text:
                continue
            parts = urlsplit(text)
            service = services.get(parts.hostname or "")
            if service is None or parts.port not in service.ports.values():
                yield f"{key} of Secret {secret} leads to {parts.hostname}:{parts.port}, where no Service is"


def _references(manifests: Sequence[Manifest]) -> Iterator[tuple[str, str, str, str | None]]:
    """Who needs which ConfigMap or Secret, and which key of it."""
    for pod in pods_of(manifests):
        for container in pod.containers:
            for source in container.get("envFrom", []):
                for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                    if field in source:
                        yield pod.owner, kind, source[field]["name"], None
            for variable in container.get("env", []):
                for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                    if reference := variable.get("valueFrom", {}).get(field):
                        yield pod.owner, kind, reference["name"], reference["key"]
        for volume in pod.spec.get("volumes", []):
            for field, kind, naming in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                if source := volume.get(field):
                    for item in source.get("items") or [{"key": None}]:
                        yield pod.owner, kind, source[naming], item["key"]
    for one in of(manifests, *SECRETS_OF):
        for secret, key in SECRETS_OF[one["kind"]](one["spec"]):
            yield name_of(one), "Secret", secret, key


def _mounts(pod: Pod) -> Iterator[str]:
    there = {one["name"] for one in pod.spec.get("volumes", [])}
    mounted = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
    for name in mounted - there - ({"data"} if pod.owner.startswith("StatefulSet") else set()):
        yield f"{pod.owner} mounts {name}, which is no volume of it"
    for name in there - mounted:
        yield f"{pod.owner} has volume {name}, which nothing mounts"


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def _files_in(volume: Mapping[str, Any], manifests: Sequence[Manifest]) -> list[str]:
    secret = volume.get("secret", {})
    if "items" in secret:
        return [item["path"] for item in secret["items"]]
    return list(keys_of(manifests, "Secret").get(secret.get("secretName", ""), {}))
