"""A program that owns a run until it is killed: `owner_of_a_run.py CACHE COMMAND…` starts the command in it."""

import os
import sys
import threading
from pathlib import Path

from tallyho_backing_services.run_folder import open_run_folder

with open_run_folder(Path(sys.argv[1]), report=print) as run:
    run.spawn("sleeper", sys.argv[2:], env=os.environ)
    print(run.path, flush=True)
    threading.Event().wait()
