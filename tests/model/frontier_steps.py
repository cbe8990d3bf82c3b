"""What befalls a frontier: webs and steps made up by hypothesis, and who may fetch and close which pages."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from crawler.frontier import Lane
from hypothesis import strategies as st
from made_up_web import Web, WebPage, good_pages
from tallyho_contracts.crawls import CrawlCancel, CrawlCommand, CrawlPause, CrawlResume

WORKERS = 2


@dataclass(frozen=True)
class CrawlRules:
    """A crawl of these pages of the web, with these limits."""

    seeds: tuple[str, ...]
    max_pages: int | None
    max_depth: int | None

    def allow(self, web: Web, saved: set[str]) -> bool:
        """Whether a whole crawl may end with these documents: all within reach, or as many as the budget has."""
        reachable = good_pages(web, self.seeds, self.max_depth)
        if self.max_pages is None or self.max_pages >= len(reachable):
            return saved == reachable
        # A place that is spent on a page keeps its links out of reach of a depth limit: fewer may be left to find.
        is_enough = len(saved) == self.max_pages or self.max_depth is not None
        return saved <= reachable and len(saved) <= self.max_pages and is_enough


@dataclass(frozen=True)
class Start:
    """The command to start a crawl comes, for the first time or again."""

    crawl: int


@dataclass(frozen=True)
class Command:
    """A command about a crawl comes: as many revisions newer or older than the last."""

    crawl: int
    type: type[CrawlCommand]
    newer: int


@dataclass(frozen=True)
class Claim:
    """Workers claim lanes, at the same time."""

    workers: tuple[int, ...]
    lanes: int
    lanes_per_origin: int
    pages_per_lane: int


@dataclass(frozen=True)
class Finish:
    """Workers commit visits to the first pages of a lane they claimed, at the same time; some give the lane back."""

    workers: tuple[int, ...]
    lane: int
    pages: int
    give_back: bool


@dataclass(frozen=True)
class LoseLease:
    """A worker gives no sign for longer than its lease. It keeps what it claimed, and knows nothing of it."""

    worker: int


@dataclass(frozen=True)
class Die:
    """A worker is gone, with all it knew, and another begins."""

    worker: int


@dataclass(frozen=True)
class PassTime:
    """What was to be tried again later is due."""


Step = Start | Command | Claim | Finish | LoseLease | Die | PassTime


@dataclass(frozen=True)
class Story:
    """A web, its crawls, and what happens."""

    web: Web
    crawls: tuple[CrawlRules, ...]
    steps: tuple[Step, ...]


@st.composite
def webs(draw: st.DrawFn) -> Web:
    """Up to twelve pages on two hosts, which link anywhere, fail at first, redirect to one another or are missing."""
    hosts = st.sampled_from(["http://one.test", "http://two.test"])
    urls = [f"{draw(hosts)}/{number}" for number in range(draw(st.integers(2, 12)))]
    any_page, hiccups = st.sampled_from(urls), st.integers(0, 2)
    plain = st.builds(WebPage, links=st.lists(any_page, max_size=5).map(tuple), hiccups=st.just(0) | hiccups)
    missing = st.builds(WebPage, missing=st.just(True), hiccups=hiccups)
    web = {url: draw(st.one_of(plain, plain, missing)) for url in urls}
    for url, target in draw(st.lists(st.tuples(any_page, any_page), max_size=2)):
        if url != target:
            web[url] = WebPage(redirect_to=target)
    return web


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """One or two crawls of a web, and up to forty steps."""
    web = draw(webs())
    rules = st.builds(
        CrawlRules,
        seeds=st.lists(st.sampled_from(sorted(web)), min_size=1, max_size=3).map(tuple),
        max_pages=st.none() | st.integers(1, 6),
        max_depth=st.none() | st.integers(0, 3),
    )
    crawls = tuple(draw(st.lists(rules, min_size=1, max_size=2)))
    crawl, worker = st.integers(0, len(crawls) - 1), st.integers(0, WORKERS - 1)
    workers = st.sampled_from([(0,), (1,), (0, 1)])
    few = st.integers(1, 4)
    claim = st.builds(Claim, workers, st.sampled_from([8, 2, 1]), few, few)
    finish = st.builds(Finish, workers, few, few, st.booleans())
    step = st.one_of(
        claim,
        finish,
        claim,
        finish,
        st.builds(LoseLease, worker),
        st.just(PassTime()),
        st.builds(Start, crawl),
        st.builds(Command, crawl, st.sampled_from([CrawlPause, CrawlResume, CrawlCancel]), st.sampled_from([1, 1, -1])),
        st.builds(Die, worker),
    )
    size = draw(st.integers(0, 40))
    return Story(web, crawls, (Start(0), *draw(st.lists(step, min_size=size, max_size=size))))


Slot = tuple[str, int]


@dataclass
class Leases:
    """Who may fetch and close what: the last that claimed a slot, until it gives it back or its lease has ended."""

    running: set[UUID] = field(default_factory=set)
    living: set[UUID] = field(default_factory=set)
    owners: dict[Slot, UUID] = field(default_factory=dict)
    epochs: dict[Slot, int] = field(default_factory=dict)

    def claimed(self, worker: UUID, lanes: Iterable[Lane]) -> None:
        """A living worker was given lanes: of running jobs, and of slots that no living worker had."""
        for lane in lanes:
            slot = lane.origin, lane.slot
            assert lane.job_id in self.running
            assert self.owners.get(slot) not in self.living, "a slot is leased twice"
            assert lane.epoch > self.epochs.get(slot, 0)
            self.owners[slot], self.epochs[slot] = worker, lane.epoch

    def may_close(self, lane: Lane) -> bool:
        """Whether nobody has claimed the lane's slot since."""
        return self.epochs[lane.origin, lane.slot] == lane.epoch

    def given_back(self, lane: Lane) -> None:
        """The lane's slot is free for all."""
        if self.may_close(lane):
            self.owners.pop((lane.origin, lane.slot), None)
