"""The words of the command line: every command with its options, and a help that teaches."""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, NoReturn
from uuid import UUID

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.pages import PageState

from tallyho import commands, completion, exits
from tallyho.commands import Command, as_flag
from tallyho.crawl_rules import Limits
from tallyho.exports import FORMATS
from tallyho.gateway import DEFAULT_URL
from tallyho.values import export_file, gateway_url, lines, number, number_or_none, seconds_or_none

AddArguments = Callable[[argparse.ArgumentParser], None]

DESCRIPTION = """Submit a crawl. Watch an exact document count, live. Lose nothing when a process dies."""
EPILOG = f"""examples:
  tallyho up                                                  start a whole system here, on port 8080
  tallyho crawl https://example.com/docs/ --max-pages 500     crawl, and show the count until the end
  tallyho jobs                                                what has been crawled, and what is being crawled
  tallyho documents JOB --follow | jq -r .source_url          each document's address as it is saved
  tallyho document DOCUMENT                                   its text

environment:
  TALLYHO_URL      where the gateway is, unless --url says (default: {DEFAULT_URL})
  TALLYHO_API_KEY  the key, where the gateway wants one

{exits.MEANINGS}

`tallyho COMMAND --help` tells more of each command; `tallyho completion --help` how Tab completes them."""

CRAWL = """Submit a crawl and watch it to its end. Ctrl-C ends the watching, not the crawl: `tallyho watch` takes it up
again, `tallyho cancel` stops it."""
CRAWL_EPILOG = """examples:
  tallyho crawl https://example.com/docs/ --max-pages 500 --include '/docs/'
  tallyho crawl https://example.com/ https://example.org/ --max-depth 2 --exclude '\\.pdf$' --name weekly
  tallyho crawl https://example.com/ --json | jq .document_count

On a terminal a line shows the status, the documents, their rate, and how long it may still take where that can be
known. Elsewhere nothing is printed but the last line. With --json each state is a line.

exit codes: 0 completed, 1 failed or cancelled, 2 bad input, 3 no gateway, 4 key refused, 130 interrupted"""
WATCH_EPILOG = """examples:
  tallyho watch 0191d3a0-0000-7000-8000-000000000001
  tallyho watch JOB --json | jq -c '[.status, .document_count]'

It goes on when services restart. exit codes: 0 completed, 1 failed or cancelled, 2 bad input, 3 no gateway, 4 key
refused, 130 interrupted"""
JOBS_EPILOG = """examples:
  tallyho jobs --live                  those that are not at their end
  tallyho jobs --json | jq -r 'select(.status == "failed") | .job_id'"""
DOCUMENTS_EPILOG = """examples:
  tallyho documents JOB > documents.jsonl
  tallyho documents JOB --follow       and go on with those that are saved from now on, to the end of the crawl
  tallyho documents JOB --after 1200   those that a reader of the first 1200 has missed

Each line has the document's ordinal in the job: 1, 2, 3 and so on without a gap, and its document_id."""
DOCUMENT_EPILOG = """examples:
  tallyho document 6fa459ea-ee8a-5ca4-894e-db77e160355e > page.md
  tallyho document DOCUMENT --json | jq -r '.links[]'
  tallyho document DOCUMENT --html > page.html       its page's source, of a crawl with --keep-html

The id is the document_id that `tallyho documents` prints."""
EXPORT_EPILOG = """examples:
  tallyho export JOB -o pages.jsonl
  tallyho export JOB --format parquet -o pages.parquet
  tallyho export JOB --format warc -o pages.warc.gz --resume

FILE has its name once it is whole; until then it is FILE.unfinished, with FILE.progress beside it. However it was
interrupted, with --resume it becomes the file that it would have been. docs/export.md says what is in it."""
LEDGER_EPILOG = """examples:
  tallyho ledger JOB
  tallyho ledger JOB --json | jq '.entries[] | select(.state == "failed")'

At the end of the job they add up to the number of URLs that it met. docs/ledger.md says what each reason means."""
URLS_EPILOG = """examples:
  tallyho urls JOB > urls.jsonl
  tallyho urls JOB --state failed | jq -r .url
  tallyho urls JOB --reason off_site | jq -r .url"""
CHANGE_EPILOG = """examples:
  tallyho change JOB --max-pages 2000     go on to 2000 documents; or end with so many, if it is fewer than now
  tallyho change JOB --delay 1.5          at most one request to a host in 1.5 seconds
  tallyho change JOB --max-failures none

Fails when the job is at its end, or is being cancelled."""
RETRY = """Visit the failed pages of a job that has ended again. They become a job of their own, with the same rules.
It goes on to what is found from there and was never met before; its documents count in it. It is watched to its end."""
RETRY_EPILOG = """examples:
  tallyho retry JOB
  tallyho retry JOB --json | tail -1 | jq .document_count

exit codes: those of `tallyho crawl`"""
LOG_EPILOG = """examples:
  tallyho log JOB                      what did not go well, page by page, and how the job's status changed
  tallyho log JOB --json | jq -r 'select(.level == "warning") | .fields.url'

Of each job the last 200 lines are kept, also when it has ended. `tallyho watch` shows its count."""
AUDIT_EPILOG = "exit codes: 0 no drift, 1 drift, 2 bad input, 3 no gateway. Of a live job, what is under way drifts."


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose texts keep their lines."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", partial(argparse.RawDescriptionHelpFormatter, max_help_position=28))
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, without the usage."""
        self.exit(exits.MISUSED, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def build_parser(url: str, elsewhere: Mapping[str, str], filled: Mapping[str, AddArguments]) -> Parser:
    """The arguments of all commands.

    `url` is where the gateway is when they don't say. `elsewhere` are commands with parsers of their own, and what they
    do. They are listed here, but their words are not parsed by this parser; it has their arguments only if `filled`.
    """
    parser = Parser(prog="tallyho", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"tallyho {version('tallyho')}")
    parser.add_argument(
        "--url", type=gateway_url, default=url, metavar="URL", help="where the gateway is (default: %(default)s)"
    )
    everywhere = Parser(add_help=False)
    everywhere.add_argument(
        "--url", type=gateway_url, default=argparse.SUPPRESS, metavar="URL", help="where the gateway is"
    )
    found = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Command, text: str, epilog: str = "", *, prints_json: str = "") -> Parser:
        summary = text.partition(". ")[0].removesuffix(".")
        command: Parser = found.add_parser(name, help=summary, description=text, epilog=epilog, parents=[everywhere])
        command.set_defaults(run=run)
        if prints_json:
            command.add_argument("--json", action="store_true", help=prints_json)
        return command

    states = "print each state as a line of JSON, and nothing else"
    each, whole = "print each as a line of JSON, and nothing else", "print all that is known of it, as JSON"
    for name, text in elsewhere.items():
        listed = found.add_parser(name, help=text, add_help=False)
        listed.set_defaults(run=commands.misplaced, name=name)
        if name in filled:
            filled[name](listed)
    add_crawl_arguments(add("crawl", commands.crawl, CRAWL, CRAWL_EPILOG, prints_json=states))
    add_job(add("watch", commands.watch, "Watch a job to its end.", WATCH_EPILOG, prints_json=states))
    jobs = add("jobs", commands.jobs, "List the jobs, the newest first.", JOBS_EPILOG, prints_json=each)
    jobs.add_argument("--live", action="store_true", help="only those that are not at their end")
    jobs.add_argument("--limit", metavar="N", type=number, help="at most so many (default: all)")
    documents = add("documents", commands.documents, "Print a job's documents as lines of JSON.", DOCUMENTS_EPILOG)
    add_job(documents)
    documents.add_argument("--follow", action="store_true", help="also those still to come, to the end of the crawl")
    documents.add_argument("--after", metavar="N", type=number, default=0, help="only those above this ordinal")
    add_document(add("document", commands.document, "Print a document's text.", DOCUMENT_EPILOG, prints_json=whole))
    written = "Write a job's documents with their texts to a file."
    add_export_arguments(add("export", commands.export, written, EXPORT_EPILOG))
    counted = "Count the URLs that a job met. By state and reason."
    add_job(add("ledger", commands.ledger, counted, LEDGER_EPILOG, prints_json=whole))
    add_url_arguments(add("urls", commands.urls, "Print the URLs that a job met, as lines of JSON.", URLS_EPILOG))
    log = add("log", commands.log, "Print the last lines of a job's log.", LOG_EPILOG, prints_json=each)
    add_job(log)
    log.add_argument("--lines", metavar="N", type=lines, default=200, help="at most so many (default: %(default)s)")
    add_job(add("cancel", commands.cancel, "Stop a job; its documents stay."))
    add_job(add("pause", commands.pause, "Fetch no more pages of a job until it is resumed."))
    add_job(add("resume", commands.resume, "Go on with a paused job."))
    add_limits(add("change", commands.change, "Change the limits of a job while it runs.", CHANGE_EPILOG))
    add_job(add("retry", commands.retry, RETRY, RETRY_EPILOG, prints_json=states))
    add_job(add("delete", commands.delete, "Delete a job that has ended, and the documents that no other job has."))
    audited = "Compare what the crawler saved with what was counted."
    audit = add("audit", commands.audit, audited, AUDIT_EPILOG, prints_json=each)
    audit.add_argument("job", metavar="JOB", type=UUID, nargs="?", help="the job's id (default: all that have ended)")
    scripted = found.add_parser(
        "completion",
        help="Let a shell complete these words",
        description="Print a script that lets a shell complete tallyho's commands, options and jobs.",
        epilog=completion.HOW_TO,
    )
    scripted.add_argument("shell", choices=completion.SHELLS, metavar="SHELL", help=", ".join(completion.SHELLS))
    scripted.set_defaults(run=None)
    return parser


def add_job(command: Parser) -> None:
    """The job that a command is about."""
    command.add_argument("job", metavar="JOB", type=UUID, help="the job's id")


def add_document(command: Parser) -> None:
    """The document, and what of it."""
    command.add_argument("document", metavar="DOCUMENT", type=UUID, help="the document's id")
    command.add_argument("--html", action="store_true", help="its page's source, where `crawl --keep-html` kept it")


def add_export_arguments(command: Parser) -> None:
    """The job, the format and the file."""
    add_job(command)
    command.add_argument(
        "--format", choices=list(FORMATS), default="jsonl", help=f"{', '.join(FORMATS)} (default: jsonl)"
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", type=export_file, required=True, help="the file; it must not be there yet"
    )
    command.add_argument("--resume", action="store_true", help="go on with an export to FILE that was interrupted")


def add_url_arguments(command: Parser) -> None:
    """The job, and which of its URLs."""
    add_job(command)
    states = ", ".join(state.value for state in PageState)
    command.add_argument(
        "--state", type=PageState, choices=list(PageState), metavar="STATE", help=f"only those: {states}"
    )
    command.add_argument(
        "--reason", metavar="REASON", help="only those that ended for this reason: robots, http_404, …"
    )


def add_limits(command: Parser) -> None:
    """The job, and the limits to change."""
    add_job(command)
    described = CrawlOptions.model_json_schema()["properties"]
    for name in Limits.__annotations__:
        is_time = name == "delay"
        command.add_argument(
            as_flag(name),
            dest=name,
            default=argparse.SUPPRESS,
            help=described[name]["description"],
            type=seconds_or_none if is_time else number_or_none,
            metavar="SECONDS" if is_time else "N",
        )


def add_crawl_arguments(command: Parser) -> None:
    """Where to start, and the rules as the contract describes them; what is not given is left to the gateway."""
    command.add_argument("urls", metavar="URL", nargs="+", help="where to start; links to the same sites are followed")
    command.add_argument("--name", metavar="TEXT", default="", help="a name for the list of jobs")
    rules = command.add_argument_group("rules of the crawl")
    for name, described in CrawlOptions.model_json_schema()["properties"].items():
        flag, text = f"--{name.replace('_', '-')}", described["description"].replace("%", "%%")
        given: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        if described.get("type") == "boolean":
            off = "" if not described["default"] else "no-"
            text = f"Don't: {text[0].lower()}{text[1:]}" if off else text
            rules.add_argument(f"--{off}{flag[2:]}", action="store_const", const=not off, help=text, **given)
        elif "enum" in described:
            choices = {"choices": described["enum"], "metavar": "|".join(described["enum"])}
            rules.add_argument(flag, help=f"{text} (default: {described['default']})", **choices, **given)
        elif described.get("type") == "array":
            value = {"below": "PATH", "url_lists": "URL"}.get(name, "RE")
            rules.add_argument(flag, action="append", metavar=value, help=f"{text} Repeatable.", **given)
        elif "date-time" in (kind.get("format") for kind in described.get("anyOf", ())):
            rules.add_argument(flag, metavar="TIME", help=f"{text} Such as 2026-03-01T00:00:00Z.", **given)
        else:
            default = "none" if described["default"] is None else f"{described['default']:,}"
            text = f"{text} (default: {default})"
            is_time = "number" in (kind.get("type") for kind in described.get("anyOf", ()))
            type_, metavar = (seconds_or_none, "SECONDS") if is_time else (number_or_none, "N")
            rules.add_argument(flag, type=type_, metavar=metavar, help=text, **given)
