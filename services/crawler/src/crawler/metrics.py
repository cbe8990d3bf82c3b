"""What the crawler tells of its work; docs/metrics.md says what each metric is for."""

from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram
from tallyho_contracts.pages import Outcome
from tallyho_postgres.pool import Connection

from crawler import store
from crawler.frontier import Visit

FETCH_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500)

VISITED = Counter("tallyho_crawler_pages", "Pages closed, by outcome.", ["outcome"])
POSTPONED = Counter("tallyho_crawler_postponed", "Visits that failed for now, and are tried again.")
VISIT_SECONDS = Histogram(
    "tallyho_crawler_visit_seconds",
    "How long a visit took: robots.txt, the turn, fetch and extraction.",
    buckets=FETCH_SECONDS,
)
COMMIT_PAGES = Histogram("tallyho_crawler_commit_pages", "Pages closed in one transaction.", buckets=PAGES)
COMMIT_SECONDS = Histogram("tallyho_crawler_commit_seconds", "How long such a transaction took.")
COMMIT_ERRORS = Counter(
    "tallyho_crawler_commit_errors",
    "Transactions that failed, by kind: transient (tried again) or fault.",
    ["kind"],
)
LANES = Gauge("tallyho_crawler_lanes", "Lanes that this process serves: one request at a time each.")
FRONTIER_PAGES = Gauge(
    "tallyho_frontier_pages",
    "Pages still to be fetched, of all replicas: due, leased (their lane is being served), later (postponed, or another"
    " level's turn), or held (their job is paused).",
    ["state"],
)

FRONTIER_STATES = ("due", "leased", "later", "held")
for _outcome in Outcome:
    VISITED.labels(_outcome)
for _state in FRONTIER_STATES:
    FRONTIER_PAGES.labels(_state)


def closed(visits: Sequence[Visit]) -> None:
    """Note the visits of one transaction, which is committed."""
    COMMIT_PAGES.observe(len(visits))
    for visit in visits:
        VISITED.labels(visit.outcome).inc()


async def look_at_frontier(connection: Connection) -> None:
    """Look up how many pages are still to be fetched."""
    pages = await store.measure_frontier(connection)
    for state in FRONTIER_STATES:
        FRONTIER_PAGES.labels(state).set(pages.get(state, 0))
