"""What selects or targets: budgets, policies, scalers, monitors and routes. Each check yields a line for each fault."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployment.manifests import Manifest, Pod, name_of, of, pods_of, selects, services_of
from tallyho_process import DRAIN_SECONDS, LEAVING_SECONDS

SERVICES = ("crawler", "job-tracker", "ws-gateway")


def budgets(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A disruption budget selects pods of one owner, and each service and the broker have one."""
    guarded = set()
    for one in of(manifests, "PodDisruptionBudget"):
        owners = {pod.owner for pod in pods_of(manifests) if selects(one["spec"]["selector"], pod.labels)}
        if len(owners) != 1:
            yield f"{name_of(one)} selects the pods of {sorted(owners) or 'nobody'}"
        guarded |= owners
    needed = {f"Deployment {name}" for name in SERVICES} | {name_of(one) for one in of(manifests, "RabbitmqCluster")}
    for owner in needed - guarded:
        yield f"{owner} has no disruption budget"


def policies(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A network policy selects pods, as do its peers in the namespace; the ports that it opens are there."""
    pods = pods_of(manifests)
    everything_denied = False
    for one in of(manifests, "NetworkPolicy"):
        spec = one["spec"]
        selected = [pod for pod in pods if selects(spec["podSelector"], pod.labels)]
        everything_denied |= spec["podSelector"] == {} and not spec.get("ingress") and not spec.get("egress")
        if not selected:
            yield f"{name_of(one)} selects nothing"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction, []):
                reached = selected if direction == "ingress" else list(_own_peers(rule.get(peers, []), pods))
                yield from (f"{name_of(one)}: {fault}" for fault in _rule_faults(rule, peers, reached, pods))
    if not everything_denied:
        yield "no network policy denies what is not allowed"


def reach(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Whoever is given an address of the broker or of the database may go there, and is let in."""
    pods = pods_of(manifests)
    for variable, port in (("AMQP_URL_FILE", 5672), ("DATABASE_URL_FILE", 5432)):
        servers = [pod for pod in pods if port in pod.ports.values()]
        for pod in pods:
            if any(one["name"] == variable for container in pod.containers for one in container.get("env", [])):
                for server in servers:
                    if not _allowed(manifests, "egress", "to", pod, server, port):
                        yield f"{pod.owner} may not go to {server.owner}"
                    if not _allowed(manifests, "ingress", "from", server, pod, port):
                        yield f"{server.owner} does not let {pod.owner} in"
        if not servers:
            yield f"nobody serves what {variable} names"


def scalers(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A scaler has a target, alone, which leaves the number of replicas to it; its trigger has its authentication."""
    deployments = {pod.owner: pod for pod in pods_of(manifests)}
    authentications = {one["metadata"]["name"] for one in of(manifests, "TriggerAuthentication")}
    seen: set[str] = set()
    for one in of(manifests, "HorizontalPodAutoscaler", "ScaledObject"):
        target = f"Deployment {one['spec']['scaleTargetRef']['name']}"
        if target not in deployments:
            yield f"{name_of(one)} scales {target}, which is not there"
        elif deployments[target].replicas_are_set:
            yield f"{target} sets its replicas although {name_of(one)} does"
        if target in seen:
            yield f"{target} has two scalers"
        seen.add(target)
        for trigger in one["spec"].get("triggers", []):
            if trigger["authenticationRef"]["name"] not in authentications:
                yield f"{name_of(one)} has no authentication"


def monitors(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A ServiceMonitor selects the three services, by a port that all it selects have."""
    services = services_of(manifests).values()
    for one in of(manifests, "ServiceMonitor"):
        selected = [service for service in services if selects(one["spec"]["selector"], service.labels)]
        for missing in {*SERVICES} - {service.name for service in selected}:
            yield f"{name_of(one)} does not see {missing}"
        for endpoint in one["spec"]["endpoints"]:
            for service in selected:
                if endpoint["port"] not in service.ports:
                    yield f"{name_of(one)} asks {service.name} at port {endpoint['port']}, which it has not"


def routes(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A route leads to a Service, at a port that it has, and bounds no stream."""
    services = services_of(manifests)
    for one in of(manifests, "HTTPRoute"):
        for rule in one["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                service = services.get(backend["name"])
                if service is None or backend["port"] not in service.ports.values():
                    yield f"{name_of(one)} leads to {backend['name']}:{backend['port']}, where no Service is"
            if rule.get("timeouts", {}).get("request") != "0s":
                yield f"{name_of(one)} ends WebSockets after a time"


def grace(manifests: Sequence[Manifest]) -> Iterator[str]:
    """A service is given the time that it takes to drain at most, after the pause before it is told."""
    for pod in pods_of(manifests):
        if pod.owner.removeprefix("Deployment ") not in SERVICES:
            continue
        [container] = pod.containers
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if pod.spec["terminationGracePeriodSeconds"] < pause + DRAIN_SECONDS + LEAVING_SECONDS:
            yield f"{pod.owner} may be killed while it drains"
        if "http" in pod.ports and not pause:
            yield f"{pod.owner} stops to accept while proxies still send"


def _own_peers(peers: Sequence[Mapping[str, Any]], pods: Sequence[Pod]) -> Iterator[Pod]:
    for peer in peers:
        if "podSelector" in peer and "namespaceSelector" not in peer:
            yield from (pod for pod in pods if selects(peer["podSelector"], pod.labels))


def _rule_faults(rule: Mapping[str, Any], peers: str, reached: Sequence[Pod], pods: Sequence[Pod]) -> Iterator[str]:
    for peer in rule.get(peers, []):
        if "podSelector" in peer and "namespaceSelector" not in peer and not list(_own_peers([peer], pods)):
            yield f"its peer {peer['podSelector']} selects nothing"
    for port in rule.get("ports", []):
        number = port.get("port")
        if number is not None and reached and not any(number in {*pod.ports, *pod.ports.values()} for pod in reached):
            yield f"no pod that it opens has port {number}"


def _allowed(manifests: Sequence[Manifest], direction: str, peers: str, pod: Pod, other: Pod, port: int) -> bool:
    """Whether some policy of `pod` lets traffic to `port` pass between it and `other`."""
    return any(
        selects(one["spec"]["podSelector"], pod.labels)
        and other in _own_peers(rule.get(peers, []), [other])
        and any(entry.get("port") in (None, port) for entry in rule.get("ports", [{}]))
        for one in of(manifests, "NetworkPolicy")
        for rule in one["spec"].get(direction, [])
    )
