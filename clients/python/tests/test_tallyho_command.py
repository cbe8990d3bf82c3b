import asyncio
import json
import os
import pty
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from aiohttp import web
from tallyho import exits
from tallyho.arguments import build_parser
from tallyho.command_line import arguments_elsewhere, main, parser
from tallyho.completion import with_commands
from tallyho_contracts.jobs import JobState, JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import Command, GatewayDouble

UNKNOWN = str(UUID(int=1))


@pytest.mark.parametrize(
    ("status", "code"), [(JobStatus.COMPLETED, 0), (JobStatus.FAILED, 1), (JobStatus.CANCELLED, 1)]
)
async def test_crawl_exits_by_the_outcome(
    gateway: "GatewayDouble", command: "Command", status: JobStatus, code: int
) -> None:
    gateway.present = gateway.state(2, status, 7)
    ran = await command("crawl", "http://site/")

    assert ran.code == code
    assert ran.out.startswith(f"{status}: 7 documents in 0.0 s; pages: 7 completed")
    assert ran.out.endswith(f"; job {gateway.job_id}\n")
    assert ran.err == ""


async def test_crawl_sends_what_was_asked_for(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.present = gateway.state(2, JobStatus.COMPLETED, 7)
    options = (
        "--max-pages none --max-depth 0 --include a --include b --exclude c --max-failures 9 --no-markdown "
        "--no-same-site --subdomains --below /docs --match-path --outlinks --drop-tracking "
        "--canonical --no-robots-tags --sitemap only --url-lists http://site/urls.txt --no-revalidate "
        "--modified-since 2026-03-01T00:00:00Z"
    )
    await command("crawl", "http://site/", "http://other/", *options.split(), "--name", "docs")

    assert gateway.created[0][1] == {
        "seeds": ["http://site/", "http://other/"],
        "name": "docs",
        "options": {
            "max_pages": None,
            "max_depth": 0,
            "include": ["a", "b"],
            "exclude": ["c"],
            "match_path": True,
            "same_site": False,
            "subdomains": True,
            "outlinks": True,
            "below": ["/docs"],
            "sitemap": "only",
            "url_lists": ["http://site/urls.txt"],
            "modified_since": "2026-03-01T00:00:00Z",
            "revalidate": False,
            "drop_tracking": True,
            "canonical": True,
            "robots_tags": False,
            "max_failures": 9,
            "markdown": False,
        },
    }


async def test_json_prints_each_state_and_nothing_else(gateway: "GatewayDouble", command: "Command") -> None:
    process = await command.start("crawl", "http://site/", "--json")
    assert process.stdout is not None
    lines = [await process.stdout.readline()]
    states = [gateway.state(2, documents=1), gateway.state(3, JobStatus.COMPLETED, 2)]
    for state in states:
        await gateway.publish(state)
        lines.append(await process.stdout.readline())
    out, err = await process.communicate()

    assert [JobState.model_validate_json(line) for line in lines] == [gateway.state(1), *states]
    assert (process.returncode, out, err) == (0, b"", b"")


async def test_without_a_terminal_there_is_the_last_line_only(gateway: "GatewayDouble", command: "Command") -> None:
    process = await command.start("watch", str(gateway.job_id))
    await gateway.subscribed()
    await gateway.publish(gateway.state(2, JobStatus.PAUSED, 20))
    await gateway.publish(gateway.state(50, JobStatus.COMPLETED, 50))
    out, err = await process.communicate()

    assert out.decode().splitlines() == [
        f"completed: 50 documents in 0.0 s; pages: 50 completed, 0 failed, 0 skipped, 0 cancelled; job {gateway.job_id}"
    ]
    assert err == b""


async def on_a_terminal(gateway: "GatewayDouble", *words: str, output: str) -> str:
    """What the command writes when this output of it is a terminal."""
    ours, theirs = pty.openpty()
    outputs = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE} | {output: theirs}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallyho", *words),
        env={"TALLYHO_URL": gateway.url, "TERM": "xterm-256color", "COLUMNS": "120"},
        **outputs,
    )
    await process.communicate()
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    return shown


async def test_terminal_gets_a_live_line_on_stderr(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(2, JobStatus.COMPLETED, 7)
    shown = await on_a_terminal(gateway, "watch", str(gateway.job_id), output="stderr")

    assert f"job {gateway.job_id}" in shown
    assert "7 documents" in shown
    assert "7 of 7 pages" in shown


async def test_interrupt_leaves_the_job_and_says_how_to_go_on(gateway: "GatewayDouble", command: "Command") -> None:
    process = await command.start("crawl", "http://site/")
    await gateway.subscribed()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    hint = err.decode()

    assert process.returncode == 130
    assert f"tallyho --url {gateway.url} watch {gateway.job_id}" in hint
    assert f"cancel {gateway.job_id}" in hint


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["crawl"], "URL"),
        (["crawl", "http://site/", "--max-pages", "0"], "--max-pages"),
        (["crawl", "http://site/", "--max-pages", "many"], "--max-pages"),
        (["crawl", "http://site/", "--max-depth", "-1"], "--max-depth"),
        (["crawl", "http://site/", "--include", ""], "--include"),
        (["crawl", "http://site/", "--no-such-option"], "--no-such-option"),
        (["watch", "not-an-id"], "JOB"),
        (["watch", UNKNOWN], "no job"),
        (["document", UNKNOWN], "no document"),
        (["document", "7"], "DOCUMENT"),
        (["documents", str(UNKNOWN), "--after", "-1"], "--after"),
        (["jobs", "--limit", "all"], "--limit"),
        (["export", UNKNOWN, "-o", "-"], "--output"),
        (["crawl", "http://site/", "--max-page", "5"], "--max-page"),
        (["completion", "tcsh"], "SHELL"),
        (["cancel", UNKNOWN], "no job"),
        (["jobs", "--url", "localhost:8080"], "--url"),
        (["no-such-command"], "no-such-command"),
        ([], "COMMAND"),
        (["--url", "http://gateway", "up"], "--url"),
    ],
)
async def test_bad_input_is_one_line_that_names_the_field(command: "Command", words: list[str], field: str) -> None:
    ran = await command(*words)

    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert field in ran.err


async def test_refusal_of_the_gateway_is_one_line_that_names_the_field(
    gateway: "GatewayDouble", command: "Command"
) -> None:
    errors = [{"field": "seeds[0]", "message": "must be http or https"}]
    gateway.refuse_next = [gateway.problem(422, "invalid", "The request is invalid.", errors)]
    ran = await command("crawl", "ftp://site/")

    assert (ran.code, ran.out, ran.err) == (2, "", "tallyho: seeds[0]: must be http or https\n")


async def test_unreachable_gateway_is_one_line(gateway: "GatewayDouble", command: "Command") -> None:
    await gateway.stop()
    ran = await command("jobs")

    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert gateway.url in ran.err


async def test_other_web_server_is_one_line(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.refuse_next = [web.Response(text="<html>")]
    ran = await command("jobs")

    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)


async def test_key_comes_from_the_environment(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.key = "secret"
    let_in, refused = await command("jobs", TALLYHO_API_KEY="secret"), await command("jobs")

    assert let_in.code == 0
    assert (refused.code, refused.out, refused.err.count("\n")) == (4, "", 1)
    assert "TALLYHO_API_KEY" in refused.err


async def test_document_is_printed_as_text_whole_or_as_its_source(gateway: "GatewayDouble", command: "Command") -> None:
    text, whole, source = [
        await command("document", str(UUID(int=7)), *words) for words in ((), ("--json",), ("--html",))
    ]

    assert text.out == "# Seven\n\x1b[2J lucky\n"
    assert source.out == "<p>Sieben glückliche\x1b[2J\n"
    assert json.loads(whole.out)["links"] == ["http://site/8"]


async def test_text_of_a_document_can_not_steer_the_terminal(gateway: "GatewayDouble") -> None:
    shown = await on_a_terminal(gateway, "document", str(UUID(int=7)), output="stdout")

    assert "# Seven\r\n\\x1b[2J lucky" in shown


async def test_log_is_printed_by_the_line_and_can_not_steer_the_terminal(
    gateway: "GatewayDouble", command: "Command"
) -> None:
    text, as_json = await command("log", str(gateway.job_id)), await command("log", str(gateway.job_id), "--json")
    last = await command("log", str(gateway.job_id), "--lines", "1")
    too_many = await command("log", str(gateway.job_id), "--lines", "1001")

    assert [line[21:] for line in text.out.splitlines()] == [
        "info     started",
        "warning  page failed: http_404  url=http://site/\\x1b[2J",
    ]
    assert [json.loads(line)["level"] for line in as_json.out.splitlines()] == ["info", "warning"]
    assert last.out == text.out.splitlines(keepends=True)[1]
    assert (too_many.code, "1001 is not from 1 to 1000" in too_many.err) == (2, True)


async def test_followed_documents_are_printed_as_they_come(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.document_count = 3
    process = await command.start("documents", str(gateway.job_id), "--follow", "--after", "1")
    assert process.stdout is not None
    lines = [await process.stdout.readline(), await process.stdout.readline()]
    await gateway.publish(gateway.state(2, JobStatus.COMPLETED, 4))
    await gateway.save(4)
    out, _ = await process.communicate()

    assert [json.loads(line)["ordinal"] for line in (*lines, *out.splitlines())] == [2, 3, 4]
    assert process.returncode == 0


async def test_jobs_can_be_limited(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.job_pages = 5
    ran = await command("jobs", "--limit", "2", "--live")

    assert ran.out.count("\n") == 2


async def test_jobs_and_documents_are_listed(gateway: "GatewayDouble", command: "Command") -> None:
    gateway.document_count = 3
    listed, as_json = await command("jobs"), await command("jobs", "--json")
    documents = await command("documents", str(gateway.job_id))

    assert str(gateway.job_id) in listed.out
    assert json.loads(as_json.out)["job_id"] == str(gateway.job_id)
    assert [json.loads(line)["ordinal"] for line in documents.out.splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("name", ["cancel", "pause", "resume"])
async def test_steering_a_job_prints_its_status(gateway: "GatewayDouble", command: "Command", name: str) -> None:
    ran = await command(name, str(gateway.job_id))

    assert (ran.code, ran.out) == (0, f"{gateway.job_id} running: 0 documents\n")


async def test_reader_that_has_seen_enough_ends_the_command_silently(
    gateway: "GatewayDouble", command: "Command"
) -> None:
    gateway.document_count = 2000
    process = await command.start("documents", str(gateway.job_id))
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    err = await process.stderr.read()

    assert (await process.wait(), err) == (141, b"")


def test_url_is_accepted_before_and_after_the_command() -> None:
    parser = build_parser("http://from-environment", {}, {})

    assert parser.parse_args(["--url", "http://a", "jobs"]).url == "http://a"
    assert parser.parse_args(["jobs", "--url", "http://b"]).url == "http://b"
    assert parser.parse_args(["jobs"]).url == "http://from-environment"


def test_up_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tallyho.up", None)
    code = main(["up", "--port", "9000"])
    error = capsys.readouterr().err

    assert code == 2
    assert error.count("\n") == 1
    assert "tallyho[up]" in error


def test_every_command_explains_each_of_its_arguments() -> None:
    commands = with_commands(parser(arguments_elsewhere()))
    arguments = [
        (command.prog, argument.dest, argument.help)
        for command in commands
        for argument in command._actions
        if not argument.choices or isinstance(argument.choices, tuple)  # a list of commands explains each by itself
    ]

    assert len(arguments) > 50
    assert [(prog, name) for prog, name, text in arguments if not text] == []


def test_help_gives_examples_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out

    assert "examples:" in said
    assert "TALLYHO_API_KEY" in said
    codes = (exits.DONE, exits.UNSUCCESSFUL, exits.MISUSED, exits.UNREACHABLE, exits.DENIED, exits.INTERRUPTED)
    assert all(re.search(rf"^  {code} ", said, re.MULTILINE) for code in codes)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("words", [("jobs",), ("watch", "--json")])
async def test_output_that_can_not_be_written_is_one_line_and_exit_2(
    gateway: "GatewayDouble", words: tuple[str, ...]
) -> None:
    gateway.present = gateway.state(2, JobStatus.COMPLETED)
    of_the_job = [str(gateway.job_id)] if words[0] == "watch" else []
    with Path("/dev/full").open("w") as full:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tallyho", "--url", gateway.url, *words, *of_the_job),
            stdout=full,
            stderr=asyncio.subprocess.PIPE,
        )
    _, err = await process.communicate()

    assert (process.returncode, err.decode()) == (2, "tallyho: standard output: No space left on device\n")
