"""What an export leaves behind when it is interrupted, and what it then goes on from."""

import asyncio
import json
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tallyho import exports
from tallyho.client import Tallyho
from tallyho.errors import TallyhoError

if TYPE_CHECKING:
    from clients.python.tests.conftest import Command, GatewayDouble

FORMATS = ("jsonl", "parquet", "warc")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exports, "STEP_DOCUMENTS", 2)
    return tmp_path / "file"


async def interrupt(gateway: "GatewayDouble", target: Path, form: str, after: int) -> None:
    """Begin anew an export that is lost after so many documents."""
    gateway.cut_documents_after = after

    async with Tallyho(gateway.url, patience=0) as client:
        with pytest.raises(TallyhoError, match="no answer"):
            await exports.export(client, gateway.job_id, target, form)


@pytest.mark.parametrize("form", FORMATS)
async def test_note_of_an_earlier_export_is_not_resumed_from(gateway: "GatewayDouble", target: Path, form: str) -> None:
    gateway.document_count = 7
    await interrupt(gateway, target, form, after=5)
    await interrupt(gateway, target, form, after=1)
    async with Tallyho(gateway.url) as client:
        found = await exports.export(client, gateway.job_id, target, form, resume=True)
        await exports.export(client, gateway.job_id, whole := target.with_name("whole"), form)

    assert found == 7
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(target.parent.iterdir()) == [target, whole]


@pytest.mark.parametrize(("earlier", "form"), [("jsonl", "parquet"), ("parquet", "jsonl")])
async def test_export_begins_anew_in_another_format(
    gateway: "GatewayDouble", target: Path, earlier: str, form: str
) -> None:
    gateway.document_count = 7
    await interrupt(gateway, target, earlier, after=5)
    async with Tallyho(gateway.url) as client:
        found = await exports.export(client, gateway.job_id, target, form)

    assert found == 7
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("form", FORMATS)
async def test_file_that_lacks_what_its_note_tells_of_is_not_resumed(
    gateway: "GatewayDouble", target: Path, form: str
) -> None:
    gateway.document_count = 7
    await interrupt(gateway, target, form, after=5)
    unfinished = target.with_name("file.unfinished")
    if form == "parquet":
        (unfinished / "000001.parquet").unlink()
    else:
        unfinished.write_bytes(unfinished.read_bytes()[:9])
    async with Tallyho(gateway.url) as client:
        with pytest.raises(TallyhoError, match="begin anew"):
            await exports.export(client, gateway.job_id, target, form, resume=True)
        unfinished.rename(target.with_name("elsewhere"))
        with pytest.raises(TallyhoError, match="begin anew"):
            await exports.export(client, gateway.job_id, target, form, resume=True)
        found = await exports.export(client, gateway.job_id, target, form)

    assert found == 7


@pytest.mark.parametrize("form", FORMATS)
async def test_file_that_another_export_is_writing_is_left_to_it(
    gateway: "GatewayDouble", target: Path, form: str
) -> None:
    gateway.document_count = 7
    async with Tallyho(gateway.url) as client:
        exporting = (exports.export(client, gateway.job_id, target, form, resume=resume) for resume in (False, True))
        first, second = await asyncio.gather(*exporting, return_exceptions=True)
        await exports.export(client, gateway.job_id, whole := target.with_name("whole"), form)

    assert first == 7
    assert str(second) == f"another export is writing {target}"
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(target.parent.iterdir()) == [target, whole]


async def test_note_that_a_kill_left_beside_a_finished_file_goes(gateway: "GatewayDouble", target: Path) -> None:
    note = target.with_name("file.progress")
    target.write_text("finished")
    note.write_text(json.dumps({"job_id": str(gateway.job_id), "format": "jsonl", "ordinal": 2, "position": 8}))
    async with Tallyho(gateway.url) as client:
        with pytest.raises(TallyhoError, match="there already"):
            await exports.export(client, gateway.job_id, target, "jsonl", resume=True)

    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("form", FORMATS)
async def test_path_that_can_not_be_written_is_one_line_and_exit_2(
    command: "Command", gateway: "GatewayDouble", tmp_path: Path, form: str
) -> None:
    ran = await command("export", str(gateway.job_id), "--format", form, "-o", str(tmp_path / "none" / "file"))

    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "none") in ran.err


async def test_disk_that_is_full_is_one_line_and_exit_2(
    command: "Command", gateway: "GatewayDouble", tmp_path: Path
) -> None:
    gateway.document_count = 200
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, most))  # the command inherits it
    process = await command.start("export", str(gateway.job_id), "-o", str(tmp_path / "file"))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    out, err = await process.communicate()

    assert (process.returncode, out) == (2, b"")
    assert err.decode() == f"tallyho: {tmp_path / 'file'}: File too large\n"
