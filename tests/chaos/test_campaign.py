"""A small campaign: one fault of nearly each kind, on crawls that never cease. `make chaos` runs the large one."""

from random import Random

import pytest
from chaos.campaign import Campaign
from chaos.faults import FAULTS, deck
from chaos.stage import open_stage
from chaos.table import lines
from tallyho_backing_services import BackingServices

SEED = 20261124
# Each of these takes long, or is much like another one.
LEFT_TO_MAKE_CHAOS = {
    "any service killed at any moment",
    "broker stopped",
    "broker out of memory",
    "broker connections slow",
    "database restarted",
    "database connections slow",
    "database full of connections",
    "messages of an older release",
    "permission refused",
}
KINDS = [fault for fault in FAULTS if not fault.slow and fault.name not in LEFT_TO_MAKE_CHAOS]


@pytest.mark.timeout(900)  # each fault takes its time, on a busy machine more
async def test_every_document_is_counted_once_whatever_fails(backing: BackingServices, amqp_url: str) -> None:
    async with open_stage(backing) as stage:
        outcome = await Campaign(stage, Random(SEED), print).run(len(KINDS), KINDS)

    print(*lines(outcome), *stage.exits, *outcome.not_injected, sep="\n")
    assert outcome.verdict.problems == []
    assert outcome.is_good
    assert outcome.faults >= len(KINDS)


def test_same_seed_deals_the_same_faults_and_none_is_left_out() -> None:
    dealt = deck(500, Random(SEED), FAULTS)

    assert dealt == deck(500, Random(SEED), FAULTS)
    assert len(dealt) == 500
    assert set(dealt) == set(FAULTS)
