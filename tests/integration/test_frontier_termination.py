"""Random crawls of random webs by workers that die: after each step the events name as open what is in the frontier."""

import random
from typing import Any
from uuid import UUID

import pytest
from frontier_checks import Ledgers
from made_up_web import Chance, Web, crawler_deps, good_pages, random_id, random_web, start
from tallyho_postgres.pool import Pool

GROUPS = 6
WEBS_A_GROUP = 5
MOST_STEPS = 2_000


def rules_of_a_job(rng: random.Random) -> dict[str, Any]:
    return {
        "max_pages": rng.choice((None, rng.randint(1, 25))),
        "max_depth": rng.choice((None, None, rng.randint(0, 5))),
    }


def check_documents(web: Web, seeds: list[str], saved: set[str], rules: dict[str, Any]) -> None:
    good = good_pages(web, seeds, rules["max_depth"])
    assert saved <= good
    if rules["max_pages"] is None or rules["max_pages"] >= len(good):
        assert saved == good
    elif rules["max_depth"] is None:
        assert len(saved) == rules["max_pages"]


@pytest.mark.parametrize("group", range(GROUPS))
async def test_job_is_done_exactly_when_all_pages_named_by_its_events_are_closed(
    crawler_pool: Pool, group: int
) -> None:
    ledgers = Ledgers(crawler_pool)
    for number in range(WEBS_A_GROUP):
        rng = random.Random(group * WEBS_A_GROUP + number)
        hosts = [f"{host}.web-{number}.test" for host in range(rng.choice((1, 2, 5)))]
        web = random_web(rng, pages=rng.choice((3, 10, 30)), hosts=hosts)
        deps = crawler_deps(crawler_pool)
        jobs: dict[UUID, tuple[list[str], dict[str, Any]]] = {}
        for _ in range(rng.choice((1, 1, 3))):
            seeds, rules = rng.sample(sorted(web), k=rng.choice((1, 1, 3))), rules_of_a_job(rng)
            jobs[await start(deps, *seeds, job_id=random_id(rng), **rules)] = (seeds, rules)
        chance = Chance(rng, crawler_pool, web)
        for _ in range(MOST_STEPS):
            await chance.step()
            await ledgers.check()
            if not any(ledgers.of[job_id].open for job_id in jobs):
                break

        for job_id, (seeds, rules) in jobs.items():
            assert not ledgers.of[job_id].open
            check_documents(web, seeds, ledgers.of[job_id].saved, rules)
