"""Where downloads and runs are kept: the user's cache."""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tallyho_backing_services.errors import BackingServicesError


def cache_folder() -> Path:
    """Return the folder of Tallyho in the user's cache, made if need be.

    Root's PostgreSQL runs as another user, who must be able to get there: where root's own cache is closed to others,
    /var/cache takes its place.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallyho"
    if os.geteuid() == 0 and not all(_open_to_all(parent) for parent in folder.parents):
        folder = Path("/var/cache/tallyho")
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        let_others_through(folder, *missing)
    except OSError as error:
        raise BackingServicesError(f"can't keep anything in {folder}: {error.strerror}; set XDG_CACHE_HOME") from error
    return folder


def let_others_through(*folders: Path) -> None:
    """Open root's folders to the user that PostgreSQL runs as, whatever root's umask is."""
    if os.geteuid() == 0:
        for folder in folders:
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o011)


@contextmanager
def locked(path: Path, wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock that this file stands for; `wait` is called again and again while another process holds it."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if wait else 0))
                break
            except BlockingIOError:
                assert wait is not None
                wait()
        yield


def _open_to_all(folder: Path) -> bool:
    return not folder.exists() or bool(folder.stat().st_mode & 0o001)
