"""What each command of `tallyho` does at a gateway."""

# ruff: noqa: T201  # a command line prints

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from rich.console import Console
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.logs import JobLog
from tallyho_contracts.pages import PageState

from tallyho import exports
from tallyho.audit import audited_jobs, in_words
from tallyho.client import Tallyho
from tallyho.crawl_rules import Limits, crawl_options
from tallyho.errors import FieldError, RequestInvalid, TallyhoError
from tallyho.exits import DONE, UNSUCCESSFUL
from tallyho.gateway import DEFAULT_URL
from tallyho.progress import shown_on, silence, summary
from tallyho.terminal import printable

Command = Callable[[Tallyho, argparse.Namespace], Awaitable[int]]


async def crawl(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Submit a job, then watch it."""
    job = await client.create_job(arguments.urls, options=chosen_options(arguments), name=arguments.name)
    return await follow(client, job, as_json=arguments.json)


def chosen_options(arguments: argparse.Namespace) -> CrawlOptions:
    """The rules that were given, checked; what is wrong is called as the command line calls it."""
    given = {name: value for name, value in vars(arguments).items() if name in CrawlOptions.model_fields}
    try:
        return crawl_options(given)
    except RequestInvalid as error:
        faults = [FieldError(as_flag(fault.field), fault.message) for fault in error.errors]
        raise RequestInvalid("", code="invalid", errors=tuple(faults)) from error


def as_flag(field: str) -> str:
    """The option that sets a rule."""
    return f"--{field.partition('.')[0].replace('_', '-')}"


async def watch(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Watch a job that exists."""
    return await follow(client, await client.job(arguments.job), as_json=arguments.json)


async def follow(client: Tallyho, job: Job, *, as_json: bool) -> int:
    """Show each state of the job, then what became of it."""
    try:
        last = await (print_states if as_json else show_states)(client, job)
    except asyncio.CancelledError:
        where = "" if client.url == DEFAULT_URL else f"--url {client.url} "
        print("The crawl goes on.", file=sys.stderr)
        print(f"  watch it:  tallyho {where}watch {job.job_id}", file=sys.stderr)
        print(f"  stop it:   tallyho {where}cancel {job.job_id}", file=sys.stderr)
        raise
    return DONE if last.status is JobStatus.COMPLETED else UNSUCCESSFUL


async def print_states(client: Tallyho, job: Job) -> JobState:
    """A line of JSON for each state; the last of them."""
    last: JobState = job
    async with aclosing(client.watch(job.job_id)) as states:
        async for last in states:
            print(last.model_dump_json(), flush=True)
    return last


async def show_states(client: Tallyho, job: Job) -> JobState:
    """The progress on stderr, then the summary on stdout; the last state."""
    last: JobState = job
    console = Console(stderr=True)
    if console.is_terminal:
        print(f"job {job.job_id}", file=sys.stderr)
    with shown_on(console, max_pages=job.options.max_pages) as show:
        async with aclosing(client.watch(job.job_id)) as states:
            async for last in states:
                show(last)
    print(summary(last) if console.is_terminal else f"{summary(last)}; job {last.job_id}")
    return last


async def jobs(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line for each job."""
    number = 0
    async with aclosing(client.jobs(live=arguments.live)) as found:
        async for state in found:
            if number == arguments.limit:
                break
            number += 1
            print(state.model_dump_json() if arguments.json else job_line(state))
    return DONE


def job_line(state: JobState) -> str:
    """A job in a line."""
    created = f"{state.created_at.astimezone():%Y-%m-%d %H:%M}"
    counted = f"{state.status:<10} {state.document_count:>8} documents"
    return f"{state.job_id}  {created}  {counted}  {printable(state.name)}{silence(state)}".rstrip()


async def documents(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line of JSON for each document."""
    found = client.documents(arguments.job, after=arguments.after, live=arguments.follow)
    async with aclosing(found):
        async for document in found:
            print(document.model_dump_json(), flush=arguments.follow)
    return DONE


async def document(client: Tallyho, arguments: argparse.Namespace) -> int:
    """The text of a document, or its page's source. A terminal gets nothing that could steer it."""
    if arguments.html:
        print_text(await client.html(arguments.document))
        return DONE
    found = await client.document(arguments.document)
    if arguments.json:
        print(found.model_dump_json())
    else:
        print_text(found.content)
    if found.truncated:
        print("tallyho: the document is too large to be sent whole; its end is left out", file=sys.stderr)
    return DONE


def print_text(text: str) -> None:
    """What a stranger wrote."""
    print(printable(text, keep="\n\t") if sys.stdout.isatty() else text)


async def export(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Write a job's documents to a file."""
    number = await exports.export(client, arguments.job, arguments.output, arguments.format, resume=arguments.resume)
    print(f"{number} documents in {arguments.output}", file=sys.stderr)
    return DONE


async def ledger(client: Tallyho, arguments: argparse.Namespace) -> int:
    """How many URLs a job met, by state and reason."""
    found = await client.ledger(arguments.job)
    if arguments.json:
        print(found.model_dump_json())
        return DONE
    # A reason can be that of pages and that of URLs which never were any.
    numbers: Counter[tuple[PageState, str]] = Counter()
    for entry in found.entries:
        numbers[entry.state, entry.reason or ""] += entry.urls
    for (state, reason), number in sorted(numbers.items(), key=lambda row: (list(PageState).index(row[0][0]), -row[1])):
        print(f"{number:>10}  {state:<10} {reason}".rstrip())
    print(f"{found.urls_met:>10}  met")
    if found.beyond:
        print(f"{found.beyond:>10}  not looked at, beyond the bounds of a page or list")
    return DONE


async def urls(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line of JSON for each URL that a job met."""
    found = client.urls(arguments.job, state=arguments.state, reason=arguments.reason)
    async with aclosing(found):
        async for url in found:
            print(url.model_dump_json())
    return DONE


async def log(client: Tallyho, arguments: argparse.Namespace) -> int:
    """The last lines of a job's log."""
    for line in await client.log(arguments.job, limit=arguments.lines):
        print(line.model_dump_json() if arguments.json else log_line(line))
    return DONE


def log_line(line: JobLog) -> str:
    """A line of a log, with what it is about after it, unless it says so itself."""
    about = [f"{name}={value}" for name, value in line.fields.items() if value is not None]
    said = [part for part in about if part.partition("=")[2] not in line.message]
    return printable(
        f"{line.timestamp.astimezone():%Y-%m-%d %H:%M:%S}  {line.level:<7}  {'  '.join([line.message, *said])}"
    )


async def audit(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line for each audited job, then how many there were."""
    number = drifted = 0
    async for audited in audited_jobs(client, arguments.job):
        number += 1
        drifted += audited.drift > 0
        print(audited.model_dump_json() if arguments.json else in_words(audited), flush=True)
    if not arguments.json:
        print(f"{number} audited, {drifted} with drift")
    return UNSUCCESSFUL if drifted else DONE


async def cancel(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Cancel a job."""
    return print_status(await client.cancel(arguments.job))


async def pause(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Pause a job."""
    return print_status(await client.pause(arguments.job))


async def resume(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Resume a job."""
    return print_status(await client.resume(arguments.job))


async def change(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Change the limits of a job."""
    limits = {name: value for name, value in vars(arguments).items() if name in Limits.__annotations__}
    if not limits:
        raise TallyhoError(f"give at least one of {', '.join(map(as_flag, Limits.__annotations__))}")
    job = await client.change(arguments.job, **limits)
    print_status(job)
    print("  " + ", ".join(f"{name} = {getattr(job.options, name)}" for name in limits))
    return DONE


async def retry(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Visit the failed pages of a job again, and watch that."""
    return await follow(client, await client.retry(arguments.job), as_json=arguments.json)


async def delete(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Delete a job."""
    job = await client.delete(arguments.job)
    print(f"{job.job_id} deleted: {job.document_count} documents")
    return DONE


def print_status(state: JobState) -> int:
    """The status after a command."""
    print(f"{state.job_id} {state.status}: {state.document_count} documents")
    return DONE


async def misplaced(_client: Tallyho, arguments: argparse.Namespace) -> int:
    """Refuse `tallyho --url … up`: these commands do not talk to a gateway."""
    raise TallyhoError(f"`{arguments.name}` comes first, and takes no --url: tallyho {arguments.name} …")
