"""What the services tell Prometheus of a crawl, at the port that is not for the public."""

import asyncio
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from crawling import crawl
from metrics import SERVICES, Documented, documented, health_url, scrape, total
from prometheus_client import Metric
from sites import made_up_site
from tallyho.system import System

Scraped = dict[str, dict[str, Metric]]


def scrape_all(system: System) -> Scraped:
    return {replica: scrape(health_url(system, replica)) for replica in system.services}


def of(scraped: Scraped, service: str, name: str, **labels: str) -> float:
    """The sum over the replicas of a service."""
    return sum(total(one, name, **labels) for replica, one in scraped.items() if replica.startswith(service))


async def test_exposed_metrics_are_the_documented_ones(system: System) -> None:
    with made_up_site(20) as site:
        await crawl(system.url, site)
    scraped = scrape_all(system)

    for service in SERVICES:
        replicas = [one for replica, one in scraped.items() if replica.startswith(service)]
        types = {name: family.type for one in replicas for name, family in one.items()}
        assert types == {name: metric.type for name, metric in documented()[service].items()}
        for one in replicas:
            for name, family in one.items():
                assert _labels(family) <= {documented()[service][name].labels}


def _labels(family: Metric) -> set[frozenset[str]]:
    return {frozenset(sample.labels.keys() - {"le"}) for sample in family.samples}


async def at_rest(system: System) -> Scraped:
    """What is told once nothing is on its way any more of the crawls before."""
    async with asyncio.timeout(60):
        before = scrape_all(system)
        while True:
            await asyncio.sleep(1)  # what is on its way between two services shows nowhere
            after = scrape_all(system)
            if all(
                of(before, service, name) == of(after, service, name)
                for service, name in (
                    ("crawler", "tallyho_outbox_published_total"),
                    ("job-tracker", "tallyho_consumer_events_total"),
                )
            ):
                return after
            before = after


async def test_metrics_of_a_crawl_add_up(system: System) -> None:
    before = await at_rest(system)
    with made_up_site(60) as site:
        states = await crawl(system.url, site)
    last = states[-1]

    def more(service: str, name: str, **labels: str) -> float:
        return of(after, service, name, **labels) - of(before, service, name, **labels)

    async with asyncio.timeout(30):  # a document may be described, and an outbox emptied, after the job's end
        while True:
            after = scrape_all(system)
            if (
                more("crawler", "tallyho_outbox_published_total")
                == more("job-tracker", "tallyho_consumer_events_total", queue="job-tracker.events")
                and total(after["job-tracker-1"], "tallyho_queue_consumers", queue="job-tracker.events") == 2
            ):
                break
            await asyncio.sleep(0.2)

    pages = last.completed_children + last.failed_children + last.skipped_children
    assert more("crawler", "tallyho_crawler_pages_total") == pages == last.total_children
    assert more("crawler", "tallyho_crawler_pages_total", outcome="failed") == last.failed_children
    assert more("crawler", "tallyho_crawler_commit_pages_sum") == pages
    assert more("crawler", "tallyho_crawler_visit_seconds_count") >= pages
    assert more("job-tracker", "tallyho_tracker_documents_total") == last.document_count
    assert more("job-tracker", "tallyho_tracker_jobs_ended_total", status="completed") == 1
    assert more("job-tracker", "tallyho_consumer_event_age_seconds_count", queue="job-tracker.events") > 0
    assert more("job-tracker", "tallyho_requests_served_total", type="job.create.v1", outcome="ok") == 1
    assert more("ws-gateway", "tallyho_requests_asked_total", type="job.create.v1", outcome="ok") == 1
    assert more("ws-gateway", "tallyho_http_requests_total", method="POST", route="/v1/jobs", status="201") == 1
    assert more("ws-gateway", "tallyho_gateway_states_total", news="yes") >= 2
    assert more("ws-gateway", "tallyho_gateway_frames_sent_total") >= len(states)
    assert [total(one, "tallyho_process_ready") for one in after.values()] == [1] * len(after)


def test_metrics_are_not_for_the_public(system: System) -> None:
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{system.url}/metrics", timeout=10)


def test_document_names_types_that_prometheus_knows() -> None:
    rows = [row for metrics in documented().values() for row in metrics.values()]

    assert len(rows) > 80
    assert {row.type for row in rows} == {"counter", "gauge", "histogram"}
    assert Documented("gauge", frozenset({"service"})) in rows
