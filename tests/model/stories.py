"""What befalls the trackers: the events of some crawls as a broker may deliver them, with requests in between."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from hypothesis import strategies as st
from model.crawl_plans import Crawl, CrawlPlan, carry_out, crawl_plans
from tallyho_contracts.crawls import CrawlStopped
from tallyho_contracts.event import Message
from tallyho_contracts.jobs import JobCancel, JobCreate, JobPause, JobResume
from tallyho_contracts.pages import Outcome, PageFinished


@dataclass(frozen=True)
class Tell:
    """A batch: pairs of a crawl's number and that of its event."""

    events: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Ask:
    """A request about one crawl."""

    crawl: int
    request: type[Message]


Action = Tell | Ask


@dataclass(frozen=True)
class Story:
    """Crawls, and rounds of one action, or of two at once at two trackers."""

    plans: tuple[CrawlPlan, ...]
    rounds: tuple[tuple[Action, ...], ...]


def crawls_of(plans: Iterable[CrawlPlan]) -> list[Crawl]:
    """The crawls carried out, each under an id of its own."""
    return [carry_out(plan, UUID(int=number)) for number, plan in enumerate(plans, 1)]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Up to three crawls that are told at the same time: each event at least once, late, early, repeated."""
    plans = tuple(draw(st.lists(crawl_plans(), min_size=1, max_size=3)))
    crawls = crawls_of(plans)
    timed = [item for number, crawl in enumerate(crawls) for item in draw(_arrivals(number, crawl))]
    ordered = [action for _, action in sorted(timed, key=lambda item: item[0])]
    stretches = [
        _batches(stretch, draw(st.lists(st.integers(1, 12), min_size=1, max_size=5)))
        for stretch in _without_effect_before_cause(ordered, crawls)
    ]
    at_once = draw(st.lists(st.booleans(), min_size=1, max_size=8))
    return Story(plans, tuple(round_ for stretch in stretches for round_ in _rounds(list(stretch), at_once)))


@st.composite
def _arrivals(draw: st.DrawFn, number: int, crawl: Crawl) -> list[tuple[int, Action]]:
    """When each event of a crawl, each copy of one, and each request about it arrives."""
    size = len(crawl.events)
    moments = st.integers(0, 2 * size)
    begin = draw(st.integers(0, 10))
    delays = draw(st.just([0] * size) | st.lists(moments, min_size=size, max_size=size))
    copies = draw(st.lists(st.tuples(st.integers(0, size - 1), moments), max_size=size))
    told = [*enumerate(delays), *copies]
    timed: list[tuple[int, Action]] = [(begin + event + delay, Tell(((number, event),))) for event, delay in told]
    created = begin + draw(st.sampled_from([0, 0, size // 2, size])) - 1
    timed.append((created, Ask(number, JobCreate)))
    if crawl.plan.cancelled:
        timed.append((created + draw(moments), Ask(number, JobCancel)))
    kinds: list[type[Message]] = [JobPause, JobPause, JobResume, JobCreate]
    requests = st.sampled_from(kinds)
    for request, moment in draw(st.lists(st.tuples(requests, moments), max_size=5)):
        timed.append((created + moment - 1, Ask(number, request)))
    return timed


@dataclass
class _Crawler:
    """How far the tracker has given the crawler reason to stop a crawl."""

    crawl: Crawl
    is_created: bool = False
    is_told_to_stop: bool = False
    failed: set[UUID] = field(default_factory=set)
    held: list[Action] = field(default_factory=list)

    def hears_of(self, event: Message) -> None:
        """The tracker has been told this."""
        if isinstance(event, PageFinished) and event.outcome is Outcome.FAILED:
            self.failed.add(event.job_id)

    @property
    def has_reason_to_stop(self) -> bool:
        """Whether the tracker must know by now that the crawl is to be stopped because of failures."""
        limit = self.crawl.plan.max_failures
        by_failures = not self.crawl.plan.cancelled and limit is not None and len(self.failed) > limit
        return self.is_created and by_failures


def _without_effect_before_cause(actions: Iterable[Action], crawls: Sequence[Crawl]) -> Iterator[list[Action]]:
    """Split `actions` where a crawl is told to stop: only after that may the tracker hear that it has stopped."""
    crawlers = [_Crawler(crawl) for crawl in crawls]
    stretch: list[Action] = []
    for action in actions:
        if isinstance(action, Tell):
            [(number, event)] = action.events
            crawler, message = crawlers[number], crawls[number].events[event]
            if isinstance(message, CrawlStopped) and not crawler.is_told_to_stop:
                crawler.held.append(action)
                continue
            crawler.hears_of(message)
        else:
            crawler = crawlers[action.crawl]
            crawler.is_created |= action.request is JobCreate
        stretch.append(action)
        is_cancel = isinstance(action, Ask) and action.request is JobCancel
        if not crawler.is_told_to_stop and (is_cancel or crawler.has_reason_to_stop):
            crawler.is_told_to_stop = True
            yield stretch
            stretch = crawler.held
    yield stretch


def _batches(actions: Iterable[Action], sizes: Sequence[int]) -> Iterator[Action]:
    """Events that arrive one after another become batches, of these sizes in turn."""
    waiting: list[tuple[int, int]] = []
    made = 0
    for action in actions:
        if isinstance(action, Tell):
            waiting += action.events
        if waiting and (isinstance(action, Ask) or len(waiting) >= sizes[made % len(sizes)]):
            yield Tell(tuple(waiting))
            waiting = []
            made += 1
        if isinstance(action, Ask):
            yield action
    if waiting:
        yield Tell(tuple(waiting))


def _rounds(actions: Sequence[Action], at_once: Sequence[bool]) -> Iterator[tuple[Action, ...]]:
    """Some neighbours happen at once. Two requests do not: who steers a job has heard that it was created."""
    left = list(actions)
    while left:
        both_ask = all(isinstance(action, Ask) for action in left[:2])
        together = 2 if at_once[len(left) % len(at_once)] and not both_ask else 1
        yield tuple(left[:together])
        left = left[together:]
