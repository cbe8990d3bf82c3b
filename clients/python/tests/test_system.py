"""The system with small programs for services, as the demo and the tests use it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_system import stand_in_plan
from tallyho.services import describe_exit, next_delay
from tallyho.system import System, SystemOptions, plan_system, running_system
