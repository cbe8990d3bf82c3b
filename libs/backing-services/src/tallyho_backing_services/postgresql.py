"""A private PostgreSQL: one cluster in the run folder, reached over TCP on 127.0.0.1 with a password."""

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tallyho_backing_services.errors import BackingServicesError
from tallyho_backing_services.run_folder import RunFolder
from tallyho_backing_services.servers import PrivateServer, Program

SUPPORTED = range(15, 19)
DEBIAN_FOLDER = Path("/usr/lib/postgresql")
PROTOCOL_3_0 = 3 << 16


@dataclass(frozen=True)
class PostgresInstallation:
    """A folder that holds initdb and postgres, and their major version."""

    folder: Path
    version: int


def find_postgres() -> PostgresInstallation | None:
    """Return the newest supported PostgreSQL of those on PATH and in Debian's folders, or None."""
    on_path = [Path(initdb).resolve().parent] if (initdb := shutil.which("initdb")) else []
    return newest_supported([*on_path, *DEBIAN_FOLDER.glob("*/bin")])


def newest_supported(folders: Iterable[Path]) -> PostgresInstallation | None:
    """Return the newest supported PostgreSQL of these folders, or None."""
    found = [installation for folder in folders if (installation := _inspect(folder)) is not None]
    return max(found, key=lambda installation: installation.version, default=None)


def start_postgres(
    run: RunFolder, installation: PostgresInstallation, *, settings: Mapping[str, str] | None = None
) -> PrivateServer:
    """Make a cluster in the run folder and start it with these settings; returns when it accepts connections."""
    user = unprivileged_user()
    home = run.path / "postgresql"
    home.mkdir(mode=0o700)
    password = secrets.token_hex(16)
    password_file = home / "password"
    password_file.write_text(password)
    if user:
        identity = pwd.getpwnam(user)
        for path in (home, password_file):
            os.chown(path, identity.pw_uid, identity.pw_gid)
    data = home / "data"
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    access = ["--username=tallyho", "--auth=scram-sha-256", f"--pwfile={password_file}"]
    # --no-sync: the cluster ends with the run, so a power cut while it is made loses nothing. The server does sync.
    options = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    run.call("initdb", [f"{installation.folder}/initdb", f"--pgdata={data}", *access, *options], env=env, user=user)
    port = run.port()
    listen = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    for name, value in (settings or {}).items():
        listen += ["-c", f"{name}={value}"]
    program = Program(
        name="PostgreSQL",
        argv=[f"{installation.folder}/postgres", "-D", str(data), *listen],
        env=env,
        answers=lambda: answers(port),
        stop_signal=signal.SIGINT,  # "fast": ends the sessions, then shuts down in order
        user=user,
    )
    server = PrivateServer(program, f"postgresql://tallyho:{password}@127.0.0.1:{port}/postgres", run)
    server.start()
    return server


def unprivileged_user() -> str | None:
    """Return whom PostgreSQL runs as when we are root, which it refuses; None is: as ourselves."""
    if os.geteuid() != 0:
        return None
    for user in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(user).pw_name
    raise BackingServicesError("PostgreSQL refuses to run as root: run this as another user")


def _inspect(folder: Path) -> PostgresInstallation | None:
    """Return the installation in that folder, if it is whole and of a supported version."""
    if not (folder / "initdb").exists() or not (folder / "postgres").exists():
        return None
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    except OSError:  # built for another machine
        return None
    version = re.search(r"\) (\d+)", said.stdout)
    if version is None or int(version[1]) not in SUPPORTED:
        return None
    return PostgresInstallation(folder, int(version[1]))


def answers(port: int) -> bool:
    """Tell whether a PostgreSQL serves at that port of 127.0.0.1, which is when it asks who we are."""
    body = struct.pack("!I", PROTOCOL_3_0) + b"user\0tallyho\0database\0postgres\0\0"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(struct.pack("!I", len(body) + 4) + body)
            return connection.recv(1) == b"R"  # a request to authenticate
    except OSError:
        return False
