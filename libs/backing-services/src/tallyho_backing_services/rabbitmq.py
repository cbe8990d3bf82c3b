"""A private RabbitMQ: one node in the run folder, with ports, a cookie and an epmd of its own."""

import os
import re
import secrets
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from tallyho_backing_services.accounts import ADMINISTRATOR, Accounts
from tallyho_backing_services.run_folder import RunFolder
from tallyho_backing_services.servers import PrivateServer, Program

DEBIAN_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
OLDEST = (3, 10)
AMQP_0_9_1 = b"AMQP\x00\x00\x09\x01"
CONFIGURATION = """\
default_user = tallyho
default_pass = {password}
disk_free_limit.absolute = 50MB
log.console = false
"""


@dataclass(frozen=True)
class RabbitInstallation:
    """RabbitMQ's own start script (not a wrapper that changes the user) and the folder that has erl and epmd."""

    script: Path
    erlang: Path

    @property
    def version(self) -> tuple[int, ...]:
        """The version, as told by the plugin that is RabbitMQ itself; empty when it isn't told."""
        plugins = self.script.resolve().parent.parent / "plugins"
        versions = [re.match(r"rabbit-(\d+)\.(\d+)\.(\d+)", plugin.name) for plugin in plugins.glob("rabbit-*")]
        return next((tuple(int(part) for part in found.groups()) for found in versions if found), ())


def find_rabbitmq() -> RabbitInstallation | None:
    """Return the installed RabbitMQ, if it and its Erlang are there and it isn't too old."""
    script = DEBIAN_SCRIPT if DEBIAN_SCRIPT.exists() else _script_on_path()
    erl = shutil.which("erl")
    if script is None or erl is None:
        return None
    folders = [Path(erl).parent, Path(erl).resolve().parent]
    erlang = next((folder for folder in folders if (folder / "epmd").exists()), None)
    if erlang is None:
        return None
    installation = RabbitInstallation(script, erlang)
    return installation if not installation.version or installation.version >= OLDEST else None


def start_rabbitmq(
    run: RunFolder, installation: RabbitInstallation, accounts: Accounts | None = None, *, configuration: str = ""
) -> PrivateServer:
    """Start a node in the run folder; returns when it accepts connections. `configuration` is added to its own."""
    home = run.path / "rabbitmq"
    home.mkdir(mode=0o700)
    password = secrets.token_hex(16)
    if accounts and accounts.definitions:
        # What is imported at a start takes the place of the default user: the administrator is in it, too.
        imported = home / "definitions.json"
        imported.write_text(accounts.definitions({ADMINISTRATOR: password, **accounts.users}))
        configuration += f"load_definitions = {imported}\n"
    (home / "rabbitmq.conf").write_text(CONFIGURATION.format(password=password) + configuration)
    (home / "enabled_plugins").write_text("[].\n")
    cookie = home / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    port, distribution_port, epmd_port = run.port(), run.port(), run.port()
    # An epmd that RabbitMQ starts by itself would leave its session and outlive it.
    epmd = [f"{installation.erlang}/epmd", "-port", str(epmd_port), "-address", "127.0.0.1"]
    env = _environment(home, installation, port, distribution_port, epmd_port)
    run.spawn("epmd", epmd, env=env)
    program = Program(
        name="RabbitMQ",
        argv=[str(installation.script)],
        env=env,
        answers=lambda: answers(port),
        stop_signal=signal.SIGTERM,
    )
    server = PrivateServer(program, f"amqp://tallyho:{password}@127.0.0.1:{port}/", run)
    server.start()
    return server


def _script_on_path() -> Path | None:
    found = shutil.which("rabbitmq-server")
    if found is None:
        return None
    script = Path(found).resolve()
    return script.with_name("rabbitmq-server") if script.name == "rabbitmq-script-wrapper" else script


def _environment(
    home: Path, installation: RabbitInstallation, port: int, distribution_port: int, epmd_port: int
) -> dict[str, str]:
    """Return all that the node is told; each file is named so that none of the machine's own is read."""
    return {
        "PATH": f"{installation.erlang}:{os.defpath}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server instead of standing between us and it
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"tallyho-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
    }


def answers(port: int) -> bool:
    """Tell whether a RabbitMQ serves at that port of 127.0.0.1."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(AMQP_0_9_1)
            return connection.recv(1) == b"\x01"  # a method frame: connection.start
    except OSError:
        return False
