"""Crawls made up by hypothesis: a plan, and what comes of it, without any code of the services."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st
from tallyho_contracts.crawls import CrawlStarted, CrawlStopped
from tallyho_contracts.documents import Change, DocumentSaved
from tallyho_contracts.event import Message
from tallyho_contracts.pages import Outcome, PageFinished, PageStarted, PageState, SpawnedPage
from tracking import NOON, document_id, spawned

REASONS: dict[Outcome, list[str | None]] = {
    Outcome.COMPLETED: [None],
    Outcome.FAILED: ["http_404", "timeout"],
    Outcome.SKIPPED: ["robots", "redirect"],
}


@dataclass(frozen=True)
class PlannedPage:
    """A page that a crawl may come to: found on page `found_on`, or a seed.

    It is claimed `claims` times before it ends. Completed, it gives the document of this number, which other pages may
    give too, and which is saved once and then `resaves` times again under other titles.
    """

    found_on: int | None
    outcome: Outcome
    reason: str | None
    document: int
    claims: int
    resaves: int


@dataclass(frozen=True)
class CrawlPlan:
    """One crawl: its pages, which of those at hand is visited next, and its end.

    The crawler obeys a cancel `obeyed_after` visits: from the start on when a person gives it, else from the failure on
    that is one too many. While it does, `under_way` visits still end, and it closes `at_once` pages in a transaction.
    """

    pages: tuple[PlannedPage, ...]
    turns: tuple[int, ...]
    max_pages: int | None
    max_failures: int | None
    cancelled: bool
    obeyed_after: int
    under_way: int
    at_once: int


@st.composite
def planned_pages(draw: st.DrawFn, number: int) -> PlannedPage:
    """The page of this number in its plan; the first one is a seed."""
    outcome: Outcome = draw(st.sampled_from(Outcome))
    return PlannedPage(
        found_on=draw(st.none() | st.integers(0, number - 1)) if number else None,
        outcome=outcome,
        reason=draw(st.sampled_from(REASONS[outcome])),
        document=draw(st.just(number) | st.integers(0, 3)),
        claims=draw(st.just(1) | st.integers(1, 3)),
        resaves=draw(st.just(0) | st.integers(0, 2)),
    )


@st.composite
def crawl_plans(draw: st.DrawFn) -> CrawlPlan:
    """Any crawl of up to twelve pages."""
    size = draw(st.integers(1, 12))
    return CrawlPlan(
        pages=tuple(draw(planned_pages(number)) for number in range(size)),
        turns=tuple(draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))),
        max_pages=draw(st.none() | st.integers(1, 6)),
        max_failures=draw(st.sampled_from([None, 0, 1, 2])),
        cancelled=draw(st.sampled_from([False, False, True])),
        obeyed_after=draw(st.integers(0, 8)),
        under_way=draw(st.integers(0, 2)),
        at_once=draw(st.integers(1, 3)),
    )


@dataclass(eq=False)
class Crawl:
    """A crawl that is over: its events in the order of their commits, and the truth that they tell of."""

    job_id: UUID
    plan: CrawlPlan
    events: list[Message] = field(default_factory=list)
    pages: dict[UUID, PageState] = field(default_factory=dict)
    titles: dict[UUID, str] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)
    _waiting: list[int] = field(default_factory=list)
    _failures: int = 0

    @property
    def documents(self) -> set[UUID]:
        """What it saved."""
        return set(self.titles)

    @property
    def failed_too_often(self) -> bool:
        """Whether more pages failed than the job allows."""
        return self.plan.max_failures is not None and self._failures > self.plan.max_failures

    def page(self, number: int) -> SpawnedPage:
        """The page of this number in the plan."""
        found_on = self.plan.pages[number].found_on
        depth = 0 if found_on is None else self.page(found_on).depth + 1
        return spawned(self.job_id, str(number), depth)

    def start(self, seeds: Sequence[int]) -> None:
        """Store the seeds."""
        self._waiting += seeds
        self.events.append(CrawlStarted(parent_job_id=self.job_id, pages=self._admit()))

    def _admit(self) -> tuple[SpawnedPage, ...]:
        """Let those join for whom the budget has a place: of pages at hand, and of pages that gave a document."""
        taken = len(self._open) + list(self.pages.values()).count(PageState.COMPLETED)
        places = len(self._waiting) if self.plan.max_pages is None else max(0, self.plan.max_pages - taken)
        joining, self._waiting = self._waiting[:places], self._waiting[places:]
        self._open += joining
        pages = tuple(map(self.page, joining))
        self.pages |= {page.page_id: PageState.PENDING for page in pages}
        return pages

    def visit(self, turn: int) -> None:
        """Claim one of the pages at hand, with its neighbours, as often as planned; then close it."""
        number = self._open[turn % len(self._open)]
        for claim in range(self.plan.pages[number].claims):
            claimed = [number, *self._open[: (turn + claim) % 3]]
            ids = tuple(self.page(one).page_id for one in claimed)
            self.events.append(PageStarted(parent_job_id=self.job_id, page_ids=ids))
        self.close(number)

    def close(self, number: int, *, follow: bool = True) -> None:
        """Commit what came of a page, and let what it links to join the crawl."""
        page, planned, at = self.page(number), self.plan.pages[number], self._now()
        completed = planned.outcome is Outcome.COMPLETED
        self._open.remove(number)
        self.pages[page.page_id] = PageState(planned.outcome)
        self._failures += planned.outcome is Outcome.FAILED
        links = [other for other, one in enumerate(self.plan.pages) if one.found_on == number]
        self._waiting += links if follow else []
        if completed:
            self._save(number, at, Change.CREATED)
        self.events.append(
            PageFinished(
                job_id=page.page_id,
                parent_job_id=self.job_id,
                url=page.url,
                depth=page.depth,
                outcome=planned.outcome,
                reason=planned.reason,
                document_id=document_id(str(planned.document)) if completed else None,
                spawned=self._admit() if follow else (),
                job_pages=len(self.pages),
                timestamp=at,
            )
        )
        for _ in range(planned.resaves if completed else 0):
            self._save(number, self._now(), Change.UPDATED)

    def _save(self, number: int, at: datetime, change: Change) -> None:
        page, document = self.page(number), document_id(str(self.plan.pages[number].document))
        self.titles[document] = title = f"Page {number} at {at:%T}"
        self.events.append(
            DocumentSaved(
                job_id=page.page_id,
                parent_job_id=self.job_id,
                document_id=document,
                source_url=page.url,
                title=title,
                content_hash="0" * 64,
                change=change,
                timestamp=at,
            )
        )

    def stop(self) -> None:
        """Obey a cancel: close what is at hand, some pages at a time, and let nothing join any more."""
        for number in self._open[: self.plan.under_way]:
            self.close(number, follow=False)
        cancelled = [self.page(number).page_id for number in self._open]
        self.pages |= dict.fromkeys(cancelled, PageState.CANCELLED)
        self._open, self._waiting = [], []
        for start in range(0, len(cancelled) + 1, self.plan.at_once):
            ids = tuple(cancelled[start : start + self.plan.at_once])
            self.events.append(CrawlStopped(parent_job_id=self.job_id, page_ids=ids))

    @property
    def at_hand(self) -> bool:
        """Whether there is a page to visit."""
        return bool(self._open)

    def _now(self) -> datetime:
        return NOON + timedelta(seconds=len(self.events))


def carry_out(plan: CrawlPlan, job_id: UUID) -> Crawl:
    """Crawl as planned."""
    crawl = Crawl(job_id, plan)
    visits_left = plan.obeyed_after if plan.cancelled else None
    if visits_left == 0:
        # The cancel overtook the start, which then finds it.
        crawl.stop()
        crawl.start(())
        return crawl
    crawl.start([number for number, page in enumerate(plan.pages) if page.found_on is None])
    for turn in plan.turns:
        if visits_left == 0 or not crawl.at_hand:
            break
        crawl.visit(turn)
        if visits_left is not None:
            visits_left -= 1
        elif crawl.failed_too_often:
            visits_left = plan.obeyed_after
    if plan.cancelled or crawl.failed_too_often:
        crawl.stop()
    return crawl
