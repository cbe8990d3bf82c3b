"""Exports of a job of ten thousand documents: streamed in constant memory, and the same file after any kill."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from uuid import UUID, uuid4

import asyncpg
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # ships no types
import pytest
from crawling import crawl
from sites import made_up_site
from tallyho.client import Tallyho
from tallyho.system import System
from warcio.archiveiterator import ArchiveIterator  # type: ignore[import-untyped]  # ships no types

DOCUMENTS = 10_000
FEW = 3_000
FORMATS = ("jsonl", "parquet", "warc")
# A job that has ended, as both services keep it. The texts are different, and together some 20 MB.
STATEMENTS = (
    "INSERT INTO crawler.documents (document_id, url, title, content, links, content_hash, status_code, content_type,"
    " created_at, saved_at, language, metadata)"
    " SELECT md5('{job}' || n)::uuid, 'https://export.test/' || n, 'Page ' || n,"
    " '# Page ' || n || repeat(E'\\n\\nÄ text of ' || md5(n::text), 40),"
    " jsonb_build_array('https://export.test/' || n + 1),"
    " md5(n::text), 200, 'text/html', now(), now(), 'en', jsonb_build_object('author', 'A ' || n)"
    " FROM generate_series(1, {n}) AS n",
    "INSERT INTO crawler.job_documents (job_id, document_id) SELECT '{job}', md5('{job}' || n)::uuid"
    " FROM generate_series(1, {n}) AS n",
    "INSERT INTO job_tracker.jobs (job_id, created_at, name, seeds, status, start_confirmed, revision, document_count,"
    " completed, started_at, finished_at) VALUES ('{job}', now(), 'export', '[\"https://export.test/1\"]', 'completed',"
    " true, 3, {n}, {n}, now(), now())",
    "INSERT INTO job_tracker.job_documents (parent_job_id, document_id, ordinal, source_url, title, content_hash,"
    " change, saved_at) SELECT '{job}', md5('{job}' || n)::uuid, n, 'https://export.test/' || n, 'Page ' || n,"
    " md5(n::text), 'created', now() FROM generate_series(1, {n}) AS n",
)


async def saved_job(system: System, documents: int) -> UUID:
    """A job with so many documents."""
    job_id = uuid4()
    connection = await asyncpg.connect(system.database_url)
    async with connection.transaction():
        for statement in STATEMENTS:
            await connection.execute(statement.replace("{job}", str(job_id)).replace("{n}", str(documents)))
    await connection.close()
    return job_id


@asynccontextmanager
async def another_text(system: System, job_id: UUID) -> AsyncIterator[None]:
    """While the block runs, the first document has another text: an export that begins anew would have it."""
    connection = await asyncpg.connect(system.database_url)
    first = f"WHERE document_id = md5('{job_id}1')::uuid"
    content = await connection.fetchval(f"SELECT content FROM crawler.documents {first}")
    await connection.execute(f"UPDATE crawler.documents SET content = 'another text' {first}")
    yield
    await connection.execute(f"UPDATE crawler.documents SET content = $1 {first}", content)
    await connection.close()


@pytest.fixture(scope="module")
def job(system: System) -> UUID:
    return asyncio.run(saved_job(system, DOCUMENTS))


@pytest.fixture(scope="module")
def small_job(system: System) -> UUID:
    return asyncio.run(saved_job(system, FEW))


async def started(system: System, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tallyho", "export", *words),
        env={**os.environ, "TALLYHO_URL": system.url},
        stderr=asyncio.subprocess.PIPE,
    )


async def exported(system: System, *words: str) -> str:
    """Run `tallyho export` to its end; what it says."""
    process = await started(system, *words)
    _, err = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, err.decode()
    return err.decode()


def cpu_of_children() -> float:
    """The CPU seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_back(path: Path, form: str) -> list[tuple[int, str, str]]:
    """Ordinal, URL and text of each document in an export."""
    if form == "jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all(line["metadata"] == {"author": f"A {line['ordinal']}"} for line in lines)
        return [(line["ordinal"], line["url"], line["content"]) for line in lines]
    if form == "parquet":
        rows = pq.read_table(path, columns=["ordinal", "url", "content", "metadata"]).to_pylist()
        assert all(row["metadata"] == [("author", f"A {row['ordinal']}")] for row in rows)
        return [(row["ordinal"], row["url"], row["content"]) for row in rows]
    found: list[tuple[str, str, str]] = []
    ordinals: dict[str, int] = {}
    with path.open("rb") as file:
        for record in ArchiveIterator(file, check_digests=True):
            content = record.content_stream().read().decode()
            headers = record.rec_headers
            assert record.digest_checker.passed is not False
            if record.rec_type == "conversion":
                url, record_id = headers.get_header("WARC-Target-URI"), headers.get_header("WARC-Record-ID")
                assert headers.get_header("Content-Type") == "text/markdown; charset=utf-8"
                found.append((record_id, url, content))
            elif record.rec_type == "metadata":
                fields = dict(line.split(": ", 1) for line in content.splitlines())
                ordinals[headers.get_header("WARC-Refers-To")] = int(fields["ordinal"])
                assert fields["outlink"] == f"https://export.test/{int(fields['ordinal']) + 1}"
    return [(ordinals[record_id], url, content) for record_id, url, content in found]


@pytest.mark.parametrize("form", FORMATS)
async def test_ten_thousand_documents_are_exported_once_each_and_again_after_a_kill(
    system: System, job: UUID, tmp_path: Path, form: str
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    began, used = monotonic(), cpu_of_children()
    said = await exported(system, str(job), "--format", form, "-o", str(whole))
    took, used = monotonic() - began, cpu_of_children() - used
    kills = 0
    for _ in range(2):
        process = await started(system, str(job), "--format", form, "-o", str(resumed), "--resume")
        note = resumed.with_name("resumed.progress")
        known = note.read_bytes() if note.exists() else b""
        while process.returncode is None and (not note.exists() or note.read_bytes() == known):
            await asyncio.sleep(0.005)  # a file can't be awaited
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        await process.communicate()
    assert not resumed.exists()
    async with another_text(system, job):
        await exported(system, str(job), "--format", form, "-o", str(resumed), "--resume")
    documents = read_back(resumed, form)

    print(f"{form}: {took:.1f} s, {used:.1f} s of CPU, {whole.stat().st_size / 1e6:.1f} MB")
    assert used < 60  # what others do on this machine must not fail it
    assert kills == 2
    assert said == f"{DOCUMENTS} documents in {whole}\n"
    assert [ordinal for ordinal, _, _ in documents] == list(range(1, DOCUMENTS + 1))
    assert all(url == f"https://export.test/{ordinal}" for ordinal, url, _ in documents)
    assert all(text.startswith(f"# Page {ordinal}\n\nÄ text") for ordinal, _, text in documents)
    assert sorted(tmp_path.iterdir()) == [resumed, whole]
    assert whole.read_bytes() == resumed.read_bytes()


MEASURED = """
import re, sys
from pathlib import Path
from tallyho.command_line import main
assert main(sys.argv[1:]) == 0
# Not ru_maxrss, which begins with that of the process that this one was forked from.
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("form", FORMATS)
async def test_more_documents_take_no_more_memory(
    system: System, job: UUID, small_job: UUID, tmp_path: Path, form: str
) -> None:
    async def peak(one: UUID) -> float:
        path = tmp_path / uuid4().hex
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEASURED, "export", str(one), "--format", form, "-o", str(path)),
            env={**os.environ, "TALLYHO_URL": system.url},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 180)
        return int(out) / 1024

    # What an allocator keeps for its threads is another time, or none; what grows with the documents is always there.
    growths: list[float] = []
    while len(growths) < 4 and (not growths or growths[-1] >= 10):
        few, many = await peak(small_job), await peak(job)
        growths.append(many - few)
        print(f"{form}: peak {few:.0f} MB for {FEW}, {many:.0f} MB for {DOCUMENTS}")

    # The texts alone of those more are 16 MB, and as objects several times that.
    assert min(growths) < 10


@pytest.fixture
async def client(system: System) -> AsyncIterator[Tallyho]:
    async with Tallyho(system.url, first_patience=60) as client:
        yield client


async def test_export_of_a_crawl_has_the_texts_that_were_saved(system: System, client: Tallyho, tmp_path: Path) -> None:
    with made_up_site(30) as site:
        job_id = (await crawl(system.url, site))[-1].job_id
    await exported(system, str(job_id), "-o", str(tmp_path / "pages.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "pages.jsonl").read_text().splitlines()]
    contents = [document async for document in client.contents(job_id)]

    assert len(lines) == len(contents) == 30
    for line, found in zip(lines, contents, strict=True):
        stored = await client.document(line["document_id"])
        assert (line["content"], tuple(line["links"])) == (stored.content, stored.links)
        assert found.stored == stored
        assert line["url"] == found.document.source_url


async def test_sources_that_a_crawl_kept_are_exported(system: System, client: Tallyho, tmp_path: Path) -> None:
    with made_up_site(12) as site:
        job_id = (await client.crawl(site, keep_html=True)).job_id
    for form in FORMATS:
        await exported(system, str(job_id), "--format", form, "-o", str(tmp_path / form))
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    sources = [(line["url"], await client.html(line["document_id"])) for line in lines]
    with (tmp_path / "warc").open("rb") as file:
        records = [
            (record.rec_type, record.rec_headers, record.content_stream().read().decode())
            for record in ArchiveIterator(file, check_digests=True)
        ][1:]
    kept = [(headers.get_header("WARC-Target-URI"), html) for kind, headers, html in records if kind == "resource"]
    ids = [headers.get_header("WARC-Record-ID") for kind, headers, _ in records if kind == "resource"]
    converted = [headers.get_header("WARC-Refers-To") for kind, headers, _ in records if kind == "conversion"]

    assert len(sources) == 12
    assert all(html.startswith("<!doctype html><title>Page") for _, html in sources)
    assert [(line["url"], line["html"]) for line in lines] == kept == sources
    assert pq.read_table(tmp_path / "parquet")["html"].to_pylist() == [html for _, html in sources]
    assert ids == converted
    assert {kind for kind, _, _ in records} == {"resource", "conversion", "metadata"}


async def test_file_that_is_there_and_progress_of_another_job_are_refused(
    system: System, small_job: UUID, job: UUID, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "other.progress").write_text(json.dumps({"job_id": str(job), "format": "jsonl"}))
    (tmp_path / "odd.progress").write_text("x")
    said = []
    for words in (
        (str(small_job), "-o", "there"),
        *((str(small_job), "--resume", "-o", name) for name in ("other", "odd")),
    ):
        process = await started(system, *words[:-1], str(tmp_path / words[-1]))
        _, err = await process.communicate()
        said.append((process.returncode, err.decode().count("\n")))

    assert said == [(2, 1)] * 3
    assert (tmp_path / "there").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3
