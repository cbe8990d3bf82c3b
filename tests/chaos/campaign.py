"""A campaign: crawls that never cease, and a deck of faults injected into them one after another."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from time import monotonic

from chaos.crawls import AWAY_SECONDS, Crawl
from chaos.faults import Fault, deck
from chaos.stage import NotInjected, Stage
from chaos.verdict import Verdict, reach_verdict
from sites import made_up_site
from tallyho.client import Tallyho
from tallyho.errors import TallyhoError
from tallyho_contracts.crawls import CrawlOptions

PATIENCE_SECONDS = 60.0
ROUND_FAULTS = 60
# A fault that takes longer than this to recover from does not keep the next one waiting, unless it is a slow one.
PACE_SECONDS = 6.0
READ_SECONDS = 0.25
SMALL_PAGES = 3


@dataclass(frozen=True)
class Lane:
    """Crawls of one site, one after another."""

    pages: int
    latency: float
    expected: int
    options: CrawlOptions = field(default_factory=CrawlOptions)


LANES = (
    Lane(400, 0.1, expected=400),
    Lane(300, 0.1, expected=120, options=CrawlOptions(max_pages=120)),
    # Each page has two children: 1 + 2 + 4 + … + 128.
    Lane(400, 0.05, expected=255, options=CrawlOptions(max_depth=7)),
    Lane(SMALL_PAGES, 0.0, expected=SMALL_PAGES),
)


@dataclass
class Outcome:
    """What a campaign found. `recoveries` are the seconds that each fault took to recover from, by its name."""

    injected: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    crawls: int = 0
    not_injected: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many faults were injected."""
        return sum(self.injected.values())

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        verdict = self.verdict
        return not (any(verdict.lost.values()) or any(verdict.twice.values()) or verdict.problems)


@dataclass
class Campaign:
    """Injects faults into a stage whose crawls never cease, and judges all crawls after each round."""

    stage: Stage
    rng: Random
    report: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)
    _running: list[Crawl] = field(default_factory=list)
    _ended: list[Crawl] = field(default_factory=list)
    _probes: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self, number: int, kinds: Sequence[Fault]) -> Outcome:
        """Inject `number` faults of these kinds, in rounds; ends after the first round in which anything is wrong."""
        with ExitStack() as opened:
            sites = [opened.enter_context(made_up_site(lane.pages, latency=lane.latency)) for lane in LANES]
            dealt = deck(number, self.rng, kinds)
            while dealt and self.outcome.is_good:
                await self._round(dealt[:ROUND_FAULTS], sites)
                self.outcome.verdict = await reach_verdict(self.stage, self._ended)
                self.report(self._balance())
                # What could not be injected is replaced, as long as there is hope.
                missing = number - self.outcome.faults if len(self.outcome.not_injected) < number else 0
                dealt = dealt[ROUND_FAULTS:] or deck(missing, self.rng, kinds)
        self.outcome.crawls = len(self._ended)
        if self.outcome.is_good and self.outcome.faults < number:
            self.outcome.verdict.problems.append(f"only {self.outcome.faults} of {number} faults could be injected")
        return self.outcome

    async def _round(self, faults: Sequence[Fault], sites: Sequence[str]) -> None:
        async with self._load(sites):
            for fault in faults:
                await self._inject(fault, sites[-1])
        await self.stage.until_ready()

    @asynccontextmanager
    async def _load(self, sites: Sequence[str]) -> AsyncIterator[None]:
        """Crawl and read while the block runs; ends when the crawls that are under way have ended."""
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for lane, site in zip(LANES, sites, strict=True):
                tasks.create_task(self._crawl_on(lane, site, enough))
            reading = tasks.create_task(self._read_on())
            try:
                yield
            finally:
                enough.set()
                await asyncio.gather(*self._probes)
                while self._running:
                    await asyncio.sleep(0.1)
                reading.cancel()

    async def _crawl_on(self, lane: Lane, site: str, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self._crawl(Crawl(lane.expected, lane.options), site)

    async def _crawl(self, crawl: Crawl, site: str) -> None:
        self._running.append(crawl)
        await crawl.run(self.stage, site, patience=PATIENCE_SECONDS)
        self._running.remove(crawl)
        self._ended.append(crawl)

    async def _read_on(self) -> None:
        """Ask for jobs and documents all the time, as people who watch a crawl do."""
        async with Tallyho(self.stage.system.url, patience=AWAY_SECONDS, first_patience=AWAY_SECONDS) as client:
            while True:
                await asyncio.sleep(READ_SECONDS)
                job_id = next((crawl.job_id for crawl in self._running if crawl.job_id), None)
                try:
                    if job_id is not None:
                        await client.job(job_id)
                except TallyhoError as error:
                    self.stage.complaints.append(f"job {job_id} could not be read: {error}")

    async def _inject(self, fault: Fault, site: str) -> None:
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        draw = Random(self.rng.random())
        present = list(self._running)
        try:
            await fault.inject(self.stage, draw)
        except NotInjected as reason:
            self.outcome.not_injected.append(f"{fault.name}: {reason}")
            return
        for crawl in {id(crawl): crawl for crawl in (*present, *self._running)}.values():
            crawl.faults.add(fault.name)
        self.outcome.injected[fault.name] = self.outcome.injected.get(fault.name, 0) + 1
        probe = asyncio.create_task(self._probe(fault, site, monotonic()))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)
        await asyncio.wait([probe], timeout=None if fault.slow else PACE_SECONDS)

    async def _probe(self, fault: Fault, site: str, lifted: float) -> None:
        """Measure how long it takes until a small crawl that was submitted when the fault was lifted has ended."""
        crawl = Crawl(SMALL_PAGES, faults={fault.name})
        await self._crawl(crawl, site)
        self.outcome.recoveries.setdefault(fault.name, []).append(monotonic() - lifted)

    def _balance(self) -> str:
        verdict = self.outcome.verdict
        lost, twice = max(verdict.lost.values(), default=0), max(verdict.twice.values(), default=0)
        done = f"{self.outcome.faults} faults, {len(self._ended)} crawls, {verdict.documents} documents"
        return f"{done}, {lost} lost, {twice} counted twice, {len(verdict.problems)} problems"
