"""The manifests of both overlays, as an operator would apply them; each check is shown to find its faults."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from deployment import cross_references, cross_selections, pod_security
from deployment.manifests import KUBERNETES, ROOT, Manifest, manifests_of, name_of, of
from deployment.schemas import accepted
from tallyho_messaging.accounts import ACCOUNTS
from tallyho_messaging.topology import WORK_QUEUES
from tallyho_postgres.pool import Pool

OVERLAYS = ("local", "production")
# The last three minor versions.
VERSIONS = ("1.35", "1.36", "1.37")
FAULTS = yaml.safe_load((Path(__file__).parent / "faults.yaml").read_text())

Check = Callable[[Sequence[Manifest]], Iterator[str]]
CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        cross_references.probes,
        cross_references.selectors,
        cross_references.configuration,
        cross_references.secret_files,
        cross_references.addresses,
        cross_selections.budgets,
        cross_selections.policies,
        cross_selections.reach,
        cross_selections.scalers,
        cross_selections.monitors,
        cross_selections.routes,
        cross_selections.grace,
        pod_security.restricted,
        pod_security.hardened,
    )
} | {"accepted": partial(accepted, version=VERSIONS[-1])}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_keep_to_the_strict_schemas_of_kubernetes(overlay: str, version: str) -> None:
    assert list(accepted(manifests_of(overlay), version)) == []


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_manifests_have_no_fault_that_is_checked(overlay: str, check: str) -> None:
    assert list(CHECKS[check](manifests_of(overlay))) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault['check']} {fault['found']}".replace("::", ":"))
def test_fault_is_found(fault: dict[str, Any]) -> None:
    manifests = manifests_of(fault.get("overlay", "production"))
    spoilt = spoil(manifests, fault)

    # A schema looks at one manifest at a time, and takes its time.
    findings = list(CHECKS[fault["check"]]([spoilt] if fault["check"] == "accepted" else manifests))
    assert any(fault["found"] in finding for finding in findings), findings


def test_every_check_is_shown_to_find_something() -> None:
    assert {fault["check"] for fault in FAULTS} == CHECKS.keys()


def spoil(manifests: list[Manifest], fault: dict[str, Any]) -> Manifest:
    """Make the fault, and return the manifest that has it."""
    name = fault["in"]
    [spoilt] = [
        one for one in manifests if name_of(one) == name or (name_of(one).startswith(f"{name}-") and "data" in one)
    ]
    path = fault.get("set", fault.get("remove"))
    if not path:
        manifests.remove(spoilt)
        return spoilt
    path = path.replace("container.", "pod.containers.0.").replace("pod.", "spec.template.spec.")
    *parents, last = [int(part) if part.isdigit() else part.replace("~", ".") for part in path.split(".")]
    place: Any = spoilt
    for part in parents:
        place = place[part]
    if "set" in fault:
        place[last] = fault["to"]
    else:
        del place[last]
    return spoilt


def test_users_of_the_broker_may_do_what_they_may_elsewhere() -> None:
    manifests = manifests_of("production")
    specs = {kind: [one["spec"] for one in of(manifests, kind)] for kind in ("Permission", "TopicPermission")}
    permissions = {spec["userReference"]["name"]: spec["permissions"] for spec in specs["Permission"]}
    topics = {
        (spec["userReference"]["name"], spec["permissions"]["exchange"]): spec["permissions"]["write"]
        for spec in specs["TopicPermission"]
    }

    assert {one["metadata"]["name"] for one in of(manifests, "User")} == ACCOUNTS.keys()
    assert permissions == {
        name: {"configure": one.configure, "write": one.write, "read": one.read} for name, one in ACCOUNTS.items()
    }
    assert topics == {(name, exchange): key for name, one in ACCOUNTS.items() for exchange, key in one.topics.items()}


def test_alerts_of_the_operator_are_those_that_are_tested() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "alerts" / "tallyho.yaml").read_text())
    written = yaml.safe_load((KUBERNETES / "components" / "monitoring" / "alerts.yaml").read_text())

    assert written["spec"] == rules, "run `make alerts`"


def test_clients_behind_a_proxy_do_not_share_the_limit_of_one_address() -> None:
    manifests = manifests_of("production")
    [gateway] = [one for one in of(manifests, "Deployment") if one["metadata"]["name"] == "ws-gateway"]
    [container] = gateway["spec"]["template"]["spec"]["containers"]

    assert of(manifests, "HTTPRoute")
    assert {"name": "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS", "value": "0"} in container["env"]


def test_trackers_are_scaled_by_a_queue_that_is_declared() -> None:
    assert trigger_of("job-tracker")["queueName"] in {queue.name for queue in WORK_QUEUES}


async def test_crawlers_are_scaled_by_the_pages_that_are_due(crawler_pool: Pool) -> None:
    async with crawler_pool.acquire() as connection:
        await connection.execute(DUE_AND_NOT)
        due = await connection.fetchval(trigger_of("crawler")["query"])

    assert due == 3


async def test_scaler_of_the_crawlers_reads_a_part_of_a_long_queue(crawler_pool: Pool) -> None:
    query = trigger_of("crawler")["query"]
    async with crawler_pool.acquire() as connection:
        await connection.execute(DUE_AND_NOT)
        await connection.execute(LONG_QUEUE)
        due = await connection.fetchval(query)
        plan = "\n".join(line for (line,) in await connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF) {query}"))
    [read] = re.findall(r"Sample Scan on queue .*actual rows=(\d+)", plan)

    assert 70_000 < due < 140_000
    assert int(read) < 50_000


async def test_scaler_of_the_crawlers_has_no_more_rights_than_they(crawler_pool: Pool) -> None:
    manifests = manifests_of("production")
    secrets = {
        one["metadata"]["name"]: {target["name"] for target in one["spec"]["secretTargetRef"]}
        for one in of(manifests, "TriggerAuthentication")
    }
    assert secrets == {"crawler": {"crawler"}, "job-tracker": {"job-tracker"}}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await crawler_pool.execute("SELECT count(*) FROM job_tracker.jobs")


def trigger_of(service: str) -> dict[str, str]:
    """What the scaler of a service looks at."""
    [scaled] = [one for one in of(manifests_of("production"), "ScaledObject") if one["metadata"]["name"] == service]
    [trigger] = scaled["spec"]["triggers"]
    metadata: dict[str, str] = trigger["metadata"]
    return metadata


# Due are the pages d and e, and j, whose job has no levels. f is of a level whose turn has not come, g of a time, h has
# a worker, i's job is paused.
DUE_AND_NOT = """
INSERT INTO jobs (job_id, status, revision, level) SELECT gen_random_uuid(), status, 1, level
    FROM (VALUES ('running', 1), ('paused', 1), ('running', NULL)) AS jobs (status, level);
INSERT INTO slots (origin, slot, owner) VALUES ('http://free', 0, NULL), ('http://busy', 0, gen_random_uuid());
INSERT INTO queue (job_id, origin, slot, depth, page_id, url, redirects, not_before)
    SELECT job_id, origin, 0, depth, gen_random_uuid(), page, 0, now() + age * interval '1 hour'
    FROM (VALUES
        ('running', 1, 'http://free', 0, 'd', -1), ('running', 1, 'http://new', 1, 'e', -1),
        ('running', 1, 'http://free', 2, 'f', -1), ('running', 1, 'http://free', 0, 'g', 1),
        ('running', 1, 'http://busy', 0, 'h', -1), ('paused', 1, 'http://free', 0, 'i', -1),
        ('running', NULL, 'http://free', 3, 'j', -1)
    ) AS pages (status, level, origin, depth, page, age)
    JOIN jobs ON jobs.status = pages.status AND jobs.level IS NOT DISTINCT FROM pages.level;
"""
LONG_QUEUE = """
INSERT INTO queue (job_id, origin, slot, depth, page_id, url, redirects, not_before)
    SELECT job_id, 'http://free', 0, 3, gen_random_uuid(), 'http://free/an/address/of/some/length/' || n, 0, now()
    FROM jobs CROSS JOIN generate_series(1, 100000) AS n WHERE level IS NULL;
"""
