"""The client as it is published: two wheels, and what its pins name; nothing else of this workspace."""

import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio
from uuid import UUID
from tallyho import GatewayUnreachable, SyncTallyho, Tallyho

async def main() -> None:
    async with Tallyho("http://127.0.0.1:1", first_patience=0.1) as client:
        try:
            await client.crawl("https://example.com/", max_pages=5)
        except GatewayUnreachable as error:
            print("async:", error)

asyncio.run(main())
with SyncTallyho("http://127.0.0.1:1", first_patience=0.1) as client:
    try:
        client.job(UUID(int=1))
    except GatewayUnreachable as error:
        print("sync:", error)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the two wheels, and the pinned packages as they are installed here."""
    folder = tmp_path_factory.mktemp("client")
    venv.create(folder / "venv", with_pip=False)
    found = folder / "venv" / "bin" / "python"
    packages = next((folder / "venv").glob("lib/python3*/site-packages"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    sources = [str(ROOT / "libs" / "contracts"), str(ROOT / "clients" / "python")]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, *sources], check=True)
    for name in pinned():
        copy_installed(name, packages)
    wheels = sorted(folder.glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["tallyho", "tallyho_contracts"]
    subprocess.run([*pip, "--python", str(found), "install", "--no-deps", "--no-index", *map(str, wheels)], check=True)
    subprocess.run([*pip, "--python", str(found), "check"], check=True)
    return found


def pinned() -> list[str]:
    """The names in the client's pins."""
    lines = (ROOT / "requirements" / "tallyho.txt").read_text().splitlines()
    return [line.partition("==")[0] for line in lines if "==" in line]


def copy_installed(name: str, packages: Path) -> None:
    """Copy an installed package; its scripts stay behind."""
    for file in distribution(name).files or ():
        if ".." not in file.parts:
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, "-I", *words], capture_output=True, text=True, check=False)


def test_program_works_with_the_client_alone(python: Path) -> None:
    ran = run(python, "-c", PROGRAM)

    assert [line.partition(":")[0] for line in ran.stdout.splitlines()] == ["async", "sync"], ran.stderr


def test_command_teaches_and_completes_without_the_services(python: Path) -> None:
    command = python.with_name("tallyho")
    said = subprocess.run([command, "--help"], capture_output=True, text=True, check=True).stdout
    script = subprocess.run([command, "completion", "bash"], capture_output=True, text=True, check=True).stdout
    up = subprocess.run([command, "up"], capture_output=True, text=True, check=False)

    assert "examples:" in said
    assert "--max-pages" in script
    assert (up.returncode, up.stderr.count("\n")) == (2, 1)
    assert "tallyho[up]" in up.stderr


def test_no_service_came_along(python: Path) -> None:
    found = run(
        python, "-c", "from importlib.metadata import distributions as d; print(sorted({one.name for one in d()}))"
    )

    assert "asyncpg" not in found.stdout
    assert [word for word in found.stdout.split("'") if word.startswith("tallyho")] == ["tallyho", "tallyho-contracts"]


def test_types_are_published(python: Path) -> None:
    packages = next(python.parents[1].glob("lib/python3*/site-packages"))

    assert [(packages / name / "py.typed").exists() for name in ("tallyho", "tallyho_contracts")] == [True, True]
