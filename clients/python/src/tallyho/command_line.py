"""The `tallyho` command: start the system, submit crawls, watch and steer them."""

# ruff: noqa: T201  # a command line prints

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import ValidationError
from rich.console import Console
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobState, JobStatus

from tallyho.audit import audited_jobs, in_words
from tallyho.client import DEFAULT_URL, Tallyho
from tallyho.errors import FieldError, RequestInvalid, TallyhoError
from tallyho.progress import shown_on, silence, summary

Command = Callable[[Tallyho, argparse.Namespace], Awaitable[int]]

COMPLETED, UNSUCCESSFUL, MISUSED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
EXIT_CODES = """exit codes: 0 completed or done; 1 the job failed or was cancelled; 2 bad input, or the gateway can't be
reached (one line on stderr says why); 130 interrupted, the job goes on"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] == ["up"]:
            return up(words[1:])
        if words[:1] == ["dead-letters"]:
            return dead_letters(words[1:])
        arguments = build_parser(os.environ.get("TALLYHO_URL") or DEFAULT_URL).parse_args(words)
        code = asyncio.run(call_gateway(arguments))
        sys.stdout.flush()
    except TallyhoError as error:
        print(f"tallyho: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough. Python flushes once more at exit: that must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the usage."""
        self.exit(MISUSED, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def build_parser(url: str) -> Parser:
    """The arguments of all commands; `url` is where the gateway is when they don't say."""
    parser = Parser(prog="tallyho", description=__doc__, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"tallyho {version('tallyho')}")
    parser.add_argument(
        "--url", type=gateway_url, default=url, help="where the gateway is (default: TALLYHO_URL, or %(default)s)"
    )
    everywhere = Parser(add_help=False)
    everywhere.add_argument("--url", type=gateway_url, default=argparse.SUPPRESS, help="where the gateway is")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, text: str, *, takes_job: bool = True, prints_json: bool = False) -> Parser:
        command: Parser = commands.add_parser(name, help=text, description=text, parents=[everywhere])
        command.set_defaults(run=run)
        if takes_job:
            command.add_argument("job", metavar="JOB", type=UUID, help="the job's id")
        if prints_json:
            command.add_argument("--json", action="store_true", help="print each as a line of JSON, nothing else")
        return command

    # For the list of commands only: `main` hands their words to these two without this parser.
    for name, text in (("up", "Start the whole system here"), ("dead-letters", "Messages that could not be applied")):
        listed = commands.add_parser(name, help=f"{text}: see `tallyho {name} --help`.")
        listed.set_defaults(run=misplaced, name=name)
    add_crawl_arguments(add("crawl", crawl, "Submit a crawl and watch it.", takes_job=False, prints_json=True))
    add("watch", watch, "Watch a job until it is done.", prints_json=True)
    add("jobs", jobs, "List the jobs, the newest first.", takes_job=False, prints_json=True)
    add("documents", documents, "Print a job's documents as lines of JSON.")
    add_audit_arguments(
        add("audit", audit, "Compare what the crawler saved with what was counted.", takes_job=False, prints_json=True)
    )
    add("cancel", cancel, "Stop a job; its documents stay.")
    add("pause", pause, "Fetch no more pages of a job until it is resumed.")
    add("resume", resume, "Go on with a paused job.")
    return parser


def add_audit_arguments(parser: Parser) -> None:
    """Which job; all that have ended when it is not given."""
    parser.add_argument("job", metavar="JOB", type=UUID, nargs="?", help="the job's id (default: all that have ended)")
    parser.epilog = (
        "exit codes: 0 no drift, 1 drift, 2 bad input or no gateway. Of a live job, what is under way drifts."
    )


def add_crawl_arguments(parser: Parser) -> None:
    """The rules of a crawl. Those that are not given are left to the gateway."""
    parser.add_argument("urls", metavar="URL", nargs="+", help="where to start; links to the same hosts are followed")
    parser.add_argument("--max-pages", metavar="N", type=int, help="stop at this many documents")
    parser.add_argument("--max-depth", metavar="D", type=int, help="follow so many links from a URL; 0 follows none")
    parser.add_argument("--include", metavar="RE", action="append", help="only URLs that match (RE2; repeatable)")
    parser.add_argument("--exclude", metavar="RE", action="append", help="no URLs that match (RE2; repeatable)")
    parser.add_argument("--max-failures", metavar="N", type=int, help="fail once more pages than this failed")
    parser.add_argument("--name", metavar="TEXT", default="", help="a name for the list of jobs")
    parser.add_argument("--no-markdown", dest="markdown", action="store_const", const=False, help="keep no text")


def gateway_url(text: str) -> str:
    """The text, when it is an address that a gateway can have."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise argparse.ArgumentTypeError(f"{text!r} is no address like {DEFAULT_URL}")
    return text


def up(words: Sequence[str]) -> int:
    """Start the whole system here."""
    try:
        import tallyho.up as system
    except ModuleNotFoundError as error:
        print(f"tallyho: no module {error.name}; `up` needs: pip install 'tallyho[up]'", file=sys.stderr)
        return MISUSED
    parser = Parser(prog="tallyho up", description="Start RabbitMQ, PostgreSQL and the services here.")
    system.add_arguments(parser)
    return system.run(parser.parse_args(words))


def dead_letters(words: Sequence[str]) -> int:
    """Read, replay or discard the messages that could not be applied."""
    try:
        import tallyho.dead_letters as letters
    except ModuleNotFoundError as error:
        needs = f"no module {error.name}; `dead-letters` needs: pip install 'tallyho[operations]'"
        print(f"tallyho: {needs}", file=sys.stderr)
        return MISUSED
    parser = Parser(prog="tallyho dead-letters", description="Messages that could not be applied, at the broker.")
    letters.add_arguments(parser)
    return letters.run(parser, parser.parse_args(words))


async def misplaced(_client: Tallyho, arguments: argparse.Namespace) -> int:
    """Refuse `tallyho --url … up`: these commands do not talk to a gateway."""
    raise TallyhoError(f"`{arguments.name}` comes first, and takes no --url: tallyho {arguments.name} …")


async def call_gateway(arguments: argparse.Namespace) -> int:
    """Run a command against the gateway; its exit code."""
    run: Command = arguments.run
    async with Tallyho(arguments.url) as client:
        return await run(client, arguments)


async def crawl(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Submit a job, then watch it."""
    job = await client.create_job(arguments.urls, options=crawl_options(arguments), name=arguments.name)
    if not arguments.json:
        print(f"job {job.job_id}", file=sys.stderr)
    return await follow(client, job.job_id, as_json=arguments.json)


def crawl_options(arguments: argparse.Namespace) -> CrawlOptions:
    """The options that were given, checked."""
    given = {name: value for name, value in vars(arguments).items() if name in CrawlOptions.model_fields}
    try:
        return CrawlOptions.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        errors = (FieldError(f"--{str(found['loc'][0]).replace('_', '-')}", found["msg"]) for found in error.errors())
        raise RequestInvalid("", code="invalid", errors=tuple(errors)) from error


async def watch(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Watch a job that exists."""
    return await follow(client, arguments.job, as_json=arguments.json)


async def follow(client: Tallyho, job_id: UUID, *, as_json: bool) -> int:
    """Show each state of the job, then what became of it."""
    try:
        last = await (print_states if as_json else show_states)(client, job_id)
    except asyncio.CancelledError:
        where = "" if client.url == DEFAULT_URL else f"--url {client.url} "
        print(
            f"\nThe job goes on. Watch it: tallyho {where}watch {job_id}; stop it: tallyho {where}cancel {job_id}",
            file=sys.stderr,
        )
        raise
    return COMPLETED if last is not None and last.status is JobStatus.COMPLETED else UNSUCCESSFUL


async def print_states(client: Tallyho, job_id: UUID) -> JobState | None:
    """A line of JSON for each state; the last of them."""
    state = None
    async for state in client.watch(job_id):
        print(state.model_dump_json(), flush=True)
    return state


async def show_states(client: Tallyho, job_id: UUID) -> JobState | None:
    """The progress on stderr, then the summary on stdout; the last state."""
    state = None
    with shown_on(Console(stderr=True)) as show:
        async for state in client.watch(job_id):
            show(state)
    if state is not None:
        print(summary(state))
    return state


async def jobs(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line for each job."""
    async for state in client.jobs():
        if arguments.json:
            print(state.model_dump_json())
        else:
            created = f"{state.created_at.astimezone():%Y-%m-%d %H:%M}"
            counted = f"{state.status:<10} {state.document_count:>8} documents"
            print(f"{state.job_id}  {created}  {counted}  {state.name}{silence(state)}")
    return COMPLETED


async def documents(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line of JSON for each document."""
    async for document in client.documents(arguments.job):
        print(document.model_dump_json())
    return COMPLETED


async def audit(client: Tallyho, arguments: argparse.Namespace) -> int:
    """A line for each audited job, then how many there were."""
    number = drifted = 0
    async for audited in audited_jobs(client, arguments.job):
        number += 1
        drifted += audited.drift > 0
        print(audited.model_dump_json() if arguments.json else in_words(audited), flush=True)
    if not arguments.json:
        print(f"{number} audited, {drifted} with drift")
    return UNSUCCESSFUL if drifted else COMPLETED


async def cancel(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Cancel a job."""
    return print_status(await client.cancel(arguments.job))


async def pause(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Pause a job."""
    return print_status(await client.pause(arguments.job))


async def resume(client: Tallyho, arguments: argparse.Namespace) -> int:
    """Resume a job."""
    return print_status(await client.resume(arguments.job))


def print_status(state: JobState) -> int:
    """The status after a command."""
    print(f"{state.job_id} {state.status}: {state.document_count} documents")
    return COMPLETED
