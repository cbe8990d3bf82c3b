"""The images, built from the Dockerfiles, and the compose file, run: where a Docker engine answers."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
from crawling import check_every_state
from deployment.manifests import ROOT
from tallyho import JobState, JobStatus, Tallyho
from tallyho.documentation_site import reachable_pages, serve_folder, write_documentation_site
from tallyho_backing_services import free_port
from tallyho_backing_services.engine import local_engine
from tallyho_contracts.crawls import CrawlOptions

SERVICES = ("crawler", "job-tracker", "ws-gateway")
# An id that no image knows.
SOMEBODY = "54321:54321"
PATIENCE_SECONDS = 900

# The first of them builds the images.
pytestmark = pytest.mark.timeout(PATIENCE_SECONDS)


def docker(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    """What `docker` prints; raises AssertionError with what went wrong."""
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> None:
    with local_engine() as found:
        if found is None:
            pytest.skip("no Docker engine answers")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker has no compose")


@pytest.fixture(scope="module")
def installation(engine: None) -> Iterator[Mapping[str, str]]:
    """The environment of `docker compose` for an installation of its own, which is up."""
    port = free_port()
    env = {
        "COMPOSE_PROJECT_NAME": f"tallyho-test-{port}",
        "COMPOSE_FILE": str(ROOT / "deploy" / "compose.yaml"),
        "TALLYHO_PORT": str(port),
        "TALLYHO_USER": SOMEBODY,
        "TALLYHO_VERSION": "test",
        "CRAWLER_ALLOW_PRIVATE_ADDRESSES": "true",
    }
    try:
        docker("compose", "up", "--build", "--detach", "--wait", "--scale", "crawler=2", env=env)
        yield env
    finally:
        docker("compose", "down", "--volumes", "--timeout", "30", env=env)


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    write_documentation_site(folder)
    return folder


async def test_crawl_across_the_images_is_exact(installation: Mapping[str, str], documentation: Path) -> None:
    host = bridge_of(installation)
    gateway = f"http://127.0.0.1:{installation['TALLYHO_PORT']}"
    with serve_folder(documentation, host=host) as site:
        async with Tallyho(gateway, api_key="local") as client:
            job = await client.create_job([site], options=CrawlOptions())
            states: list[JobState] = [state async for state in client.watch(job.job_id)]
            documents = [document async for document in client.documents(job.job_id)]
    expected = len(reachable_pages(documentation)[0])

    check_every_state(states)
    assert (states[-1].status, states[-1].document_count) == (JobStatus.COMPLETED, expected)
    assert [document.ordinal for document in documents] == list(range(1, expected + 1))


def test_dashboard_is_there(installation: Mapping[str, str]) -> None:
    with urlopen(f"http://127.0.0.1:{installation['TALLYHO_PORT']}/") as page:
        assert b"Tallyho" in page.read()


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_somebody_who_can_write_nowhere(installation: Mapping[str, str], service: str) -> None:
    script = (
        "import os; print(os.getuid(), [p for p in ('/', '/opt/tallyho', '/tmp', '/var/tmp') if os.access(p, os.W_OK)])"
    )

    assert docker("compose", "exec", "-T", service, "python", "-c", script, env=installation) == "54321 []\n"


@pytest.mark.parametrize("service", SERVICES)
def test_image_has_what_is_pinned_and_no_tool_to_build_with(installation: Mapping[str, str], service: str) -> None:
    script = (
        "import importlib.metadata as m, shutil, json; print(json.dumps([sorted(d.name.lower().replace('_', '-') + '=='"
        " + d.version for d in m.distributions() if '/opt/tallyho' in str(d.locate_file(''))),"
        " [t for t in ('pip', 'gcc', 'hatchling') if shutil.which(t, path='/opt/tallyho/bin:/usr/local/bin')]]))"
    )
    installed, tools = json.loads(docker("compose", "exec", "-T", service, "python", "-c", script, env=installation))
    pinned = {
        line
        for name in (service, "traces")
        for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        if "==" in line
    }

    assert {one for one in installed if not one.startswith("tallyho-")} == pinned
    assert tools == []


@pytest.mark.parametrize("service", SERVICES)
def test_image_says_what_it_is(installation: Mapping[str, str], service: str) -> None:
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", f"tallyho-{service}:test"))

    assert labels["org.opencontainers.image.title"] == f"tallyho-{service}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def bridge_of(installation: Mapping[str, str]) -> str:
    """This machine's address, as the containers see it."""
    network = f"{installation['COMPOSE_PROJECT_NAME']}_default"
    return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network).strip()
