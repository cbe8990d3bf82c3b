"""The restricted Pod Security Standard, and our own rules beside it. Each check yields a line for each fault.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployment.manifests import Manifest, Pod, of, pods_of

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
# Images of others, which write where they please.
WRITING = {"rabbitmq", "postgres"}


def restricted(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every pod keeps to the restricted profile, which its namespace enforces."""
    for pod in pods_of(manifests):
        if pod.spec:
            yield from (f"{pod.owner}: {fault}" for fault in _pod_faults(pod.spec))
            for container in pod.containers:
                yield from (f"{pod.owner}: {fault}" for fault in _container_faults(pod.spec, container))
    for one in of(manifests, "Namespace"):
        if one["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace does not enforce the restricted profile"


def hardened(manifests: Sequence[Manifest]) -> Iterator[str]:
    """No token, nothing writable, and bounds on what is used."""
    for pod in pods_of(manifests):
        if not pod.spec:
            continue
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.owner} has a token of the API server"
        if pod.spec.get("enableServiceLinks") is not False:
            yield f"{pod.owner} has variables that name services as its settings are named"
        for container in pod.containers:
            yield from _bounds(pod, container)


def _bounds(pod: Pod, container: Mapping[str, Any]) -> Iterator[str]:
    read_only = container.get("securityContext", {}).get("readOnlyRootFilesystem")
    if not read_only and container["name"] not in WRITING:
        yield f"{pod.owner}: {container['name']} can write to its root file system"
    for bound in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if resource not in container.get("resources", {}).get(bound, {}):
                yield f"{pod.owner}: {container['name']} has no {resource} in its {bound}"
    if container["image"].endswith(":latest") or ":" not in container["image"]:
        yield f"{pod.owner}: {container['name']} runs any version of {container['image']}"


def _pod_faults(spec: Mapping[str, Any]) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield f"{field} is set"
    for volume in spec.get("volumes", []):
        if kinds := volume.keys() - VOLUMES - {"name"}:
            yield f"volume {volume['name']} is a {kinds.pop()}"
    for sysctl in spec.get("securityContext", {}).get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is unsafe"


def _container_faults(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    both = {**spec.get("securityContext", {}), **own}
    if both.get("runAsNonRoot") is not True or both.get("runAsUser", 1) == 0:
        yield f"{name} may run as root"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield f"{name} has no seccomp profile"
    if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may gain privileges"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield f"{name} keeps capabilities"
    if {*own.get("capabilities", {}).get("add", [])} - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"
    if own.get("procMount", "Default") != "Default":
        yield f"{name} sees more of /proc"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name} opens a port of the node"
