"""Exports of a job's documents into one file: streamed, in constant memory, and resumed where they stopped."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast
from uuid import UUID

from tallyho_contracts.documents import JobDocument
from tallyho_contracts.jobs import Job

from tallyho.client import Tallyho
from tallyho.errors import TallyhoError

# A step ends with so many documents, or characters of text and HTML: what a kill can cost, and what is held in memory.
STEP_DOCUMENTS = 500
STEP_CHARACTERS = 4_000_000

# The modules, which need the extra of that name, but for the first.
FORMATS = {"jsonl": "tallyho.export_jsonl", "parquet": "tallyho.export_parquet", "warc": "tallyho.export_warc"}


class Writer(Protocol):
    """One format. What was added is in the file, for good, once `save` has returned."""

    def __init__(self, unfinished: Path, job: Job, position: int) -> None:
        """Go on writing at a position that `save` gave; 0 is the beginning. What stands behind it is dropped.

        Raises TallyhoError when what stands before it is not there.
        """

    def add(self, document: JobDocument) -> None:
        """Add a document."""

    def save(self) -> int:
        """Make durable what was added; returns the position behind it."""

    def finish(self, finished: Path) -> None:
        """Make of what was saved the finished file, at once."""

    def close(self) -> None:
        """Let go of the file. What was not saved is lost."""


@dataclass(frozen=True)
class Progress:
    """How far an export is: it holds the documents of a job up to this ordinal."""

    job_id: str
    format: str
    ordinal: int = 0
    position: int = 0


async def export(client: Tallyho, job_id: UUID, target: Path, form: str, *, resume: bool = False) -> int:
    """Write the documents that a job has by now to `target`; returns how many there are in it.

    The file has its name only once it is whole. With `resume` an export of the same job and format that was interrupted
    goes on, and gives the same file as if it had not been. Raises TallyhoError.
    """
    job = await client.job(job_id)
    note = target.with_name(f"{target.name}.progress")
    try:
        with _alone(target):
            writer, progress = _begun(target, note, job, form, resume=resume)
            with closing(writer):
                ordinal = await _write_all(client, job, writer, note, progress)
                writer.finish(target)
            note.unlink()
    except OSError as error:
        raise TallyhoError(f"{error.filename or target}: {error.strerror or error}") from error
    return ordinal


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold the lock of a target, which ends with this process. Raises TallyhoError when another export holds it."""
    lock = target.with_name(f"{target.name}.lock")
    with lock.open("w") as file:
        with suppress(ModuleNotFoundError):  # Windows has none
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TallyhoError(f"another export is writing {target}") from error
        try:
            yield
        finally:
            lock.unlink()


async def _write_all(client: Tallyho, job: Job, writer: Writer, note: Path, progress: Progress) -> int:
    """Write the documents that are not written yet; the ordinal of the last."""
    added = characters = 0
    ordinal = progress.ordinal
    async with aclosing(client.contents(job.job_id, after=ordinal, html=job.options.keep_html)) as documents:
        async for document in documents:
            writer.add(document)
            ordinal = document.document.ordinal
            added += 1
            if stored := document.stored:
                characters += len(stored.content) + len(stored.html or "")
            if added >= STEP_DOCUMENTS or characters >= STEP_CHARACTERS:
                _note(note, replace(progress, ordinal=ordinal, position=writer.save()))
                added = characters = 0
    _note(note, replace(progress, ordinal=ordinal, position=writer.save()))
    return ordinal


def _begun(target: Path, note: Path, job: Job, form: str, *, resume: bool) -> tuple[Writer, Progress]:
    """The writer of an export, and how far it is already."""
    writer = writer_of(form)
    unfinished = target.with_name(f"{target.name}.unfinished")
    if target.exists():
        if not unfinished.exists():
            note.unlink(missing_ok=True)  # a kill came between the end of the file and that of its note
        raise TallyhoError(f"{target} is there already")
    progress = Progress(str(job.job_id), form)
    if resume and note.exists():
        progress = _read(note, progress)
    else:
        note.unlink(missing_ok=True)  # before the file, of which it would say more than is there
        _remove(unfinished)
    return writer(unfinished, job, progress.position), progress


def _remove(unfinished: Path) -> None:
    """Remove what an export in any format left behind: a file, or a folder of parts."""
    if unfinished.is_dir():
        shutil.rmtree(unfinished)
    else:
        unfinished.unlink(missing_ok=True)


def writer_of(form: str) -> type[Writer]:
    """The writer of a format. Raises TallyhoError where its package is not installed."""
    try:
        return cast("type[Writer]", import_module(FORMATS[form]).Writer)
    except ModuleNotFoundError as error:
        raise TallyhoError(f"no module {error.name}; {form} needs: pip install 'tallyho[{form}]'") from error


def _read(note: Path, wanted: Progress) -> Progress:
    try:
        found = Progress(**json.loads(note.read_bytes()))
    except (ValueError, TypeError) as error:
        raise TallyhoError(f"{note} does not say how far an export is") from error
    if (found.job_id, found.format) != (wanted.job_id, wanted.format):
        raise TallyhoError(f"{note} is of job {found.job_id} as {found.format}")
    return found


def _note(note: Path, progress: Progress) -> None:
    """Replace the note at once: a kill leaves the old one or the new."""
    fresh = note.with_name(f"{note.name}.new")
    with fresh.open("w") as file:
        json.dump(asdict(progress), file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(note)
