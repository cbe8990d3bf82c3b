"""Compile the pins: requirements/<package>.txt for each service and the client, dev.txt for everything.

traces.txt is what a service needs in addition to send traces; build.txt is what the images are built with; audit.txt,
policies.txt and benchmark.txt are for tools, and for other crawlers, in environments of their own.
Run by `make pins`. The local packages are left out; what they depend on is in. All files agree with dev.txt, except for
those environments.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECTS = {
    project["project"]["name"]: project
    for project in (
        tomllib.loads(file.read_text())
        for folder in ("libs", "services", "clients")
        for file in (ROOT / folder).glob("*/pyproject.toml")
    )
}
DEPLOYED = ("tallyho-crawler", "tallyho-job-tracker", "tallyho-ws-gateway", "tallyho")


def dependencies(name: str, *, extras: bool = False) -> set[str]:
    """The third-party requirements of a local package, through the local packages that it depends on."""
    project = PROJECTS[name]["project"]
    direct = list(project["dependencies"])
    if extras:
        direct += [one for extra in project.get("optional-dependencies", {}).values() for one in extra]
    found: set[str] = set()
    for requirement in direct:
        other = re.split(r"[\[<>=~!; ]", requirement)[0]
        found |= dependencies(other, extras=extras) if other in PROJECTS else {requirement}
    return found


def compile_pins(target: str, requirements: set[str], *constraints: str) -> None:
    """Pin `requirements` and what they need in requirements/`target`, without naming an index."""
    options = ["--quiet", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
    options += ["--strip-extras", "--no-annotate", "--no-allow-unsafe", "--output-file", f"requirements/{target}", "-"]
    text = "\n".join([*sorted(requirements), *(f"-c {ROOT}/requirements/{file}" for file in constraints)])
    command = [sys.executable, "-m", "piptools", "compile", *options]
    subprocess.run(command, input=text, text=True, cwd=ROOT, check=True)


def listed(file: str) -> set[str]:
    """The requirements that stand in requirements/`file`."""
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def main() -> None:
    """Compile dev.txt, then the others within it."""
    development = set().union(*(dependencies(name, extras=True) for name in PROJECTS))
    compile_pins("dev.txt", development | listed("dev.in"))
    compile_pins("traces.txt", dependencies("tallyho-process", extras=True), "dev.txt")
    compile_pins("audit.txt", listed("audit.in"))
    compile_pins("benchmark.txt", listed("benchmark.in"))
    compile_pins("policies.txt", {"checkov"})
    compile_pins("build.txt", {"hatchling"}, "dev.txt")
    for name in DEPLOYED:
        compile_pins(f"{name.removeprefix('tallyho-')}.txt", dependencies(name), "dev.txt")


if __name__ == "__main__":
    main()
