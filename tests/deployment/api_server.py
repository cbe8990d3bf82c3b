"""A Kubernetes API server of this run alone: it judges and keeps manifests, and nothing comes of them."""

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from signal import SIGTERM
from typing import Any
from urllib.request import urlopen

import yaml
from deployment.manifests import KUBECTL, Manifest
from deployment.schemas import CRDS
from tallyho_backing_services.cache import cache_folder
from tallyho_backing_services.run_folder import RunFolder, open_run_folder
from tallyho_backing_services.servers import PrivateServer, Program


@dataclass(frozen=True)
class ApiServer:
    """One that serves, and how `kubectl` gets there."""

    url: str
    token: str
    authority: Path

    def kubectl(self, *arguments: str | Path, given: Sequence[Manifest] = ()) -> str:
        """What `kubectl` prints, given manifests as standard input; raises AssertionError with what it says instead."""
        done = self.try_kubectl(*arguments, given=given)
        assert done.returncode == 0, f"kubectl {' '.join(map(str, arguments))}: {done.stderr}"
        return done.stdout

    def try_kubectl(self, *arguments: str | Path, given: Sequence[Manifest] = ()) -> subprocess.CompletedProcess[str]:
        """The same, whether or not it fails; a warning is a failure."""
        access = [f"--server={self.url}", f"--token={self.token}", f"--certificate-authority={self.authority}"]
        return subprocess.run(
            [KUBECTL, "--kubeconfig=/dev/null", "--warnings-as-errors", *access, *arguments],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(given)}),
            capture_output=True,
            text=True,
            check=False,
        )


def find_programs() -> tuple[str, str] | None:
    """etcd and kube-apiserver, as the environment names them or from PATH; None unless both are there."""
    etcd, server = (os.environ.get(name.upper().replace("-", "_"), name) for name in ("etcd", "kube-apiserver"))
    found = shutil.which(etcd), shutil.which(server)
    return (found[0], found[1]) if found[0] and found[1] else None


@contextmanager
def open_api_server(programs: tuple[str, str]) -> Iterator[ApiServer]:
    """Yield one that listens on 127.0.0.1 and has the definitions of the custom resources."""
    with open_run_folder(cache_folder(), print) as run:
        store = _start_etcd(run, programs[0])
        server = _start_server(run, programs[1], store.url)
        server.kubectl("create", "--filename=-", given=definitions())
        server.kubectl("wait", "--for=condition=Established", "customresourcedefinition", "--all")
        yield server


def definitions() -> list[Manifest]:
    """The CustomResourceDefinitions: the operators' own, of a folder that the environment names, or of our schemas."""
    if folder := os.environ.get("CUSTOM_RESOURCE_DEFINITIONS"):
        return [one for file in sorted(Path(folder).glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
    return [_definition(file) for file in sorted(CRDS.glob("*.json"))]


def _definition(file: Path) -> Manifest:
    group, version, kind = file.stem.split("_")
    names = {"kind": kind, "plural": f"{kind.lower()}s"}
    schema = {"openAPIV3Schema": _structural(json.loads(file.read_text()))}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{names['plural']}.{group}",
            # A group of Kubernetes' own is not taken without.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def _structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema in the form that definitions have: closed without saying so, and with a word for number or text."""
    written = {key: value for key, value in schema.items() if (key, value) != ("additionalProperties", False)}
    if isinstance(written["type"], list):
        del written["type"]
        written["x-kubernetes-int-or-string"] = True
    if "properties" in written:
        written["properties"] = {name: _structural(one) for name, one in written["properties"].items()}
    for key in written.keys() & {"items", "additionalProperties"}:
        written[key] = _structural(written[key])
    return written


def _start_etcd(run: RunFolder, program: str) -> PrivateServer:
    clients, peers = (f"http://127.0.0.1:{run.port()}" for _ in range(2))
    argv = [
        program,
        f"--data-dir={run.path / 'etcd'}",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        "--unsafe-no-fsync",  # ends with the run
    ]
    server = PrivateServer(
        Program("etcd", argv, {"PATH": os.defpath}, lambda: _answers(f"{clients}/health"), SIGTERM), clients, run
    )
    server.start()
    return server


def _start_server(run: RunFolder, program: str, store: str) -> ApiServer:
    port, token = run.port(), token_hex(16)
    folder = run.path / "api-server"
    folder.mkdir(mode=0o700)
    key, tokens, authority = folder / "accounts.key", folder / "tokens.csv", folder / "apiserver.crt"
    run.call("openssl", ["openssl", "genrsa", "-out", str(key), "2048"], env={"PATH": os.defpath})
    tokens.write_text(f"{token},tests,tests,system:masters\n")
    url = f"https://127.0.0.1:{port}"
    argv = [
        program,
        f"--etcd-servers={store}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--endpoint-reconciler-type=none",  # a loopback address is no endpoint
        f"--service-account-issuer={url}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
    ]
    PrivateServer(
        Program("kube-apiserver", argv, {"PATH": os.defpath}, lambda: _answers(f"{url}/readyz", authority), SIGTERM),
        url,
        run,
    ).start()
    return ApiServer(url, token, authority)


def _answers(url: str, authority: Path | None = None) -> bool:
    try:
        trust = ssl.create_default_context(cafile=authority) if authority else None
        with urlopen(url, timeout=5, context=trust) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
