"""A whole system of its own: two crawlers, two trackers, one gateway, and a real site."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tallyho.documentation_site import reachable_pages, serve_folder, write_documentation_site
from tallyho.system import System, SystemOptions, running_system


@pytest.fixture(scope="session")
def system() -> Iterator[System]:
    options = SystemOptions(crawlers=2, trackers=2, allow_private_addresses=True, settings={"HEALTH_PORT": "0"})
    with running_system(options, report=print, supervised=True) as system:
        yield system


@pytest.fixture(scope="session")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real documentation site: the standard library, as pydoc writes it."""
    folder = tmp_path_factory.mktemp("documentation")
    write_documentation_site(folder)
    return folder


@pytest.fixture(scope="session")
def reachable(documentation: Path) -> int:
    """How many pages of it can be reached from its index."""
    return len(reachable_pages(documentation)[0])


@pytest.fixture(scope="session")
def site(documentation: Path) -> Iterator[str]:
    """The address of that site."""
    with serve_folder(documentation) as url:
        yield url
