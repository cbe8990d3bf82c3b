"""`tallyho up` with small programs in place of the services: `stand_in_system.py [OPTION…]`."""

import argparse
import os
import sys
from collections.abc import Sequence

from tallyho import up
from tallyho.services import ServiceSpec
from tallyho.system import Addresses, Plan, SystemOptions

GATEWAY = """
import os, socket, time
server = socket.create_server(("127.0.0.1", int(os.environ["GATEWAY_PORT"])))
print(f"2025-01-02 INFO ws_gateway ready url=http://127.0.0.1:{os.environ['GATEWAY_PORT']}", flush=True)
time.sleep(60)
"""
WORKER = "echo already here; echo now ready; exec sleep 60"


def stand_in_plan(options: SystemOptions, ports: Sequence[int], addresses: Addresses) -> Plan:
    """Return a gateway for each port and a worker for each crawler; the environment may have other scripts for them."""
    script, step = os.environ.get("WORKER", WORKER), os.environ.get("STEP", "true")
    env = {"PATH": os.defpath}
    gateways = [
        ServiceSpec(f"gateway-{n}", [sys.executable, "-c", GATEWAY], {**env, "GATEWAY_PORT": str(port)})
        for n, port in enumerate(ports, start=1)
    ]
    workers = [ServiceSpec(f"crawler-{n}", ["/bin/sh", "-c", script], env) for n in range(1, options.crawlers + 1)]
    return Plan([ServiceSpec("step", ["/bin/sh", "-c", step], env)], [*gateways, *workers])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    up.add_arguments(parser)
    sys.exit(up.run(parser.parse_args(), plan=stand_in_plan))
