"""`python -m tallyho.demo [URL]`: crawl a real documentation site with the whole system, and check its count.

The count of the job is compared with what the crawler stored, with the tracker's ordinals, and with the pages that the
site's links lead to, which the demo finds out by itself from the files.
"""

# ruff: noqa: T201  # a command line prints

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from rich.console import Console
from tallyho_backing_services import BackingServicesError
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobState, JobStatus
from tallyho_contracts.pages import PageState

from tallyho.client import Tallyho
from tallyho.documentation_site import reachable_pages, serve_folder, write_documentation_site
from tallyho.errors import TallyhoError
from tallyho.progress import lines, shown_on, summary
from tallyho.system import System, SystemOptions, running_system
from tallyho.up import interrupted_by_signals, say

STORED = """
    SELECT count(*) FROM crawler.job_documents JOIN crawler.documents USING (document_id)
    WHERE job_documents.job_id = $1
"""
NUMBERED = """
    SELECT count(*) AS rows, coalesce(min(ordinal), 1) AS first, coalesce(max(ordinal), 0) AS last
    FROM job_tracker.job_documents WHERE parent_job_id = $1
"""


@dataclass(frozen=True)
class Figures:
    """The same number, found out in independent ways."""

    counted: int
    stored: int
    numbered: int
    first_ordinal: int
    last_ordinal: int
    reachable: int | None

    @property
    def agree(self) -> bool:
        """Whether all are the same, and the ordinals are 1 to that number."""
        numbers = {self.counted, self.stored, self.numbered, self.last_ordinal}
        return len(numbers) == 1 and self.first_ordinal == 1 and self.reachable in (None, self.counted)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo: 0 when the crawl completed and all figures agree, 1 when not, 2 when it could not run."""
    parser = argparse.ArgumentParser(prog="tallyho.demo", description=__doc__)
    parser.add_argument("url", metavar="URL", nargs="?", help="crawl this site instead of a local one")
    parser.add_argument("--max-pages", metavar="N", type=int, default=200, help="with a URL (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        with interrupted_by_signals(), ExitStack() as stack:
            return run(arguments.url, arguments.max_pages, stack)
    except KeyboardInterrupt:
        return 130
    except (BackingServicesError, TallyhoError) as error:
        print(f"tallyho: {error}", file=sys.stderr)
        return 2


def run(url: str | None, max_pages: int, stack: ExitStack) -> int:
    """Start everything on the stack, crawl, and tell; in a terminal, stay up until Ctrl-C."""
    reachable = None
    options = CrawlOptions(max_pages=max_pages)
    if url is None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tallyho-site-")))
        reachable = write_site(folder)
        url = stack.enter_context(serve_folder(folder))
        options = CrawlOptions()
    system_options = SystemOptions(crawlers=2, allow_private_addresses=reachable is not None)
    system = stack.enter_context(running_system(system_options, report=say))
    say(f"crawling {url} with two crawlers; its page: {system.url}")
    completed, figures = asyncio.run(crawl(system, url, options, reachable))
    for line in figure_lines(figures):
        say(line)
    if sys.stdout.isatty():
        say(f"\nThe system stays up: {system.url} (Ctrl-C stops it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0 if completed and figures.agree else 1


def write_site(folder: Path) -> int:
    """Write the site; how many pages its links lead to."""
    say("writing a documentation site with pydoc: the standard library of this Python")
    written = write_documentation_site(folder)
    found, broken = reachable_pages(folder)
    say(f"{written} pages, {len(found)} of them reachable from the index; {len(broken)} links lead nowhere")
    return len(found)


async def crawl(system: System, url: str, options: CrawlOptions, reachable: int | None) -> tuple[bool, Figures]:
    """Crawl the site, showing the count; whether the job completed, and the figures."""
    async with Tallyho(system.url) as client:
        job = await client.create_job([url], options=options, name="demo")
        last: JobState = job
        console = Console()
        shown = shown_on(console) if console.is_terminal else nullcontext(lines(say, clock=time.monotonic))
        with shown as show:
            async for state in client.watch(job.job_id):
                show(last := state)
        say(summary(last))
        for ended in (PageState.FAILED, PageState.SKIPPED):
            reasons = Counter([page.reason async for page in client.pages(job.job_id, state=ended)])
            for reason, count in reasons.most_common():
                say(f"  {ended}: {reason}: {count}")
    return last.status is JobStatus.COMPLETED, await read_figures(system.database_url, last, reachable)


async def read_figures(database_url: str, job: JobState, reachable: int | None) -> Figures:
    """Read both services' tables, which nothing but this check does."""
    connection = await asyncpg.connect(database_url)
    try:
        stored = await connection.fetchval(STORED, job.job_id)
        numbered = await connection.fetchrow(NUMBERED, job.job_id)
    finally:
        await connection.close()
    assert numbered is not None
    return Figures(
        counted=job.document_count,
        stored=stored,
        numbered=numbered["rows"],
        first_ordinal=numbered["first"],
        last_ordinal=numbered["last"],
        reachable=reachable,
    )


def figure_lines(figures: Figures) -> list[str]:
    """The comparison, as it is printed."""
    rows = [
        (figures.counted, "the job's document_count"),
        (figures.stored, "documents of this job in the crawler's table"),
        (figures.numbered, f"ordinals in the tracker, {figures.first_ordinal} to {figures.last_ordinal}"),
    ]
    if figures.reachable is not None:
        rows.append((figures.reachable, "pages that the site's links lead to, counted from its files"))
    verdict = "all agree" if figures.agree else "THEY DIFFER"
    return [*(f"{number:>8}  {what}" for number, what in rows), verdict]


if __name__ == "__main__":
    sys.exit(main())
