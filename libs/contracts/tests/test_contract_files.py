"""`python -m tallyho_contracts`: what it writes, what it notices, and what it records as released."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tallyho_contracts.__main__ import main
from tallyho_contracts.contract_files import write
from tallyho_contracts.registry import EVENTS, MESSAGES, MessageType
from tallyho_contracts.released import AlreadyReleasedError, read_releases, release
from tallyho_contracts.replies import Refused

SOURCE = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of libs/contracts without its code."""
    for name in ("schemas", "examples", "released"):
        shutil.copytree(SOURCE / name, tmp_path / name)
    for name in ("asyncapi.json", "pyproject.toml"):
        shutil.copy(SOURCE / name, tmp_path)
    return tmp_path


def test_check_is_silent_when_nothing_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], folder) == 0
    assert capsys.readouterr() == ("", "")


def test_check_names_each_file_that_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "schemas" / "job.get.v1.json").write_text("{}\n")
    (folder / "schemas" / "event.json").unlink()
    (folder / "schemas" / "job.forgotten.v1.json").write_text("{}\n")
    (folder / "asyncapi.json").write_text("{}\n")
    code = main(["check"], folder)

    assert code == 1
    assert capsys.readouterr().err.splitlines()[:-1] == [
        "asyncapi.json differs",
        "schemas/event.json is missing",
        "schemas/job.forgotten.v1.json belongs to no message type",
        "schemas/job.get.v1.json differs",
    ]


def test_write_restores_what_is_generated(folder: Path) -> None:
    shutil.rmtree(folder / "schemas")
    (folder / "asyncapi.json").unlink()
    (folder / "examples" / "job.get.v1.json").write_text(
        json.dumps(json.loads((SOURCE / "examples" / "job.get.v1.json").read_text()))
    )
    code = main(["write"], folder)

    assert code == 0
    assert main(["check"], folder) == 0
    for path in SOURCE.glob("schemas/*.json"):
        assert (folder / "schemas" / path.name).read_text() == path.read_text()


def test_write_removes_a_schema_without_a_type_but_no_example(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("schemas", "examples"):
        (folder / name / "job.forgotten.v1.json").write_text("{}\n")
    code = main(["write"], folder)

    assert code == 1
    assert not (folder / "schemas" / "job.forgotten.v1.json").exists()
    assert capsys.readouterr().err.startswith("examples/job.forgotten.v1.json belongs to no message type\n")


def test_a_missing_example_is_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "examples" / "job.get.v1.json").unlink()

    assert main(["write"], folder) == 1
    assert capsys.readouterr().err == "examples/job.get.v1.json is missing: write one by hand\n"


def test_an_example_that_its_model_refuses_is_named_with_its_field(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "examples" / "job.get.v1.json"
    path.write_text(path.read_text().replace('"job_id": "6f1d', '"job_id": "'))

    assert main(["check"], folder) == 1
    assert capsys.readouterr().err.startswith("examples/job.get.v1.json: data.job_id: Input should be a valid UUID")


def test_an_example_of_another_type_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "examples" / "job.get.v1.json", folder / "examples" / "job.pause.v1.json")

    assert main(["check"], folder) == 1
    assert "examples/job.pause.v1.json must be of type job.pause.v1" in capsys.readouterr().err


def test_a_new_type_appears_everywhere_from_its_row_and_its_example(folder: Path) -> None:
    row = MessageType("page.refused.v1", Refused, EVENTS)
    example = json.loads((folder / "examples" / "request.refused.v1.json").read_text())
    example |= {"type": row.name, "dataschema": f"tallyho:/schemas/{row.name}.json"}
    (folder / "examples" / f"{row.name}.json").write_text(json.dumps(example))
    write(folder, MESSAGES | {row.name: row})

    assert (folder / "schemas" / f"{row.name}.json").exists()
    assert row.name in json.loads((folder / "asyncapi.json").read_text())["channels"]


@pytest.mark.parametrize("arguments", [[], ["help"], ["write", "check"]])
def test_anything_else_gets_the_usage(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, folder) == 2
    assert capsys.readouterr().err.startswith("usage: python -m tallyho_contracts")


def test_an_installed_package_has_no_files_to_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"], tmp_path) == 2
    assert "in a source tree" in capsys.readouterr().err


def test_releasing_twice_adds_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(folder / "released")
    first = main(["release"], folder)
    lines = capsys.readouterr().out.splitlines()
    second = main(["release"], folder)

    assert (first, second) == (0, 0)
    assert len(lines) == len(MESSAGES) + 1
    assert capsys.readouterr().out == ""


def test_a_changed_contract_needs_a_higher_version(tmp_path: Path) -> None:
    before = MessageType("thing.made.v1", MESSAGES["job.get.v1"].data, EVENTS)
    after = MessageType("thing.made.v1", MESSAGES["job.list.v1"].data, EVENTS)
    release(tmp_path, [before], "0.1.0")

    with pytest.raises(AlreadyReleasedError, match=r"thing\.made\.v1 of 0\.1\.0 is released"):
        release(tmp_path, [after], "0.1.0")
    assert release(tmp_path, [after], "0.2.0") == ["thing.made.v1"]
    assert [one.version for one in read_releases(tmp_path)["thing.made.v1"]] == ["0.1.0", "0.2.0"]


def test_the_command_needs_pydantic_only() -> None:
    program = "import sys, tallyho_contracts.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "pydantic" in loaded
    assert {"aio_pika", "asyncpg", "aiohttp", "jsonschema", "jsoncompat"}.isdisjoint(loaded)
