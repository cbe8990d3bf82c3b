"""States and interests go in; which frames come out."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import Job, JobState
from ws_gateway import hub as hub_module
from ws_gateway.clients import Client, Pace
from ws_gateway.frames import Outcome
from ws_gateway.hub import Hub, state_of

State = Callable[..., JobState]
ONE, TWO = UUID(int=1), UUID(int=2)


def taken(client: Client) -> list[dict[str, Any]]:
    """The payloads of all that is pending."""
    frames = [frame for pace in client.paces for frame in client.take(pace, 1_000_000)]
    return [json.loads(frame[frame.index(b"{") :])["payload"] for frame in frames]


def revisions(client: Client) -> list[tuple[int, int]]:
    return [(UUID(payload["job_id"]).int, payload["revision"]) for payload in taken(client)]


def quiet(_: Pace, __: bool) -> None:
    """A connection that flushes when the test takes."""


def test_state_of_a_job_is_all_but_what_was_asked_for(state: State) -> None:
    running = state(1, 3, documents=2)

    assert state_of(Job(**running.model_dump(), seeds=("https://example.com/",), options=CrawlOptions())) == running


def test_new_client_begins_with_every_live_job(state: State) -> None:
    hub = Hub()
    hub.offer(state(1, 5))
    hub.offer(state(2, 3, "completed"))

    client = hub.join(quiet)

    assert revisions(client) == [(1, 5)]


def test_jobs_that_somebody_follows_by_their_ids_are_not_forgotten_with_the_others(state: State) -> None:
    hub = Hub()
    for number in (1, 2):
        hub.offer(state(number, 1))
    hub.subscribe(hub.join(quiet), ONE, None)
    hub.forget_unwatched()

    assert (hub.newest(ONE) is None, hub.newest(TWO) is None) == (False, True)


@pytest.mark.parametrize("is_answered", [True, False])
def test_end_that_a_jobs_own_subscription_did_not_bring_comes_with_every_job(state: State, is_answered: bool) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.offer(state(1, 1))
    hub.subscribe_all(client, {})
    hub.answer_all(client)
    taken(client)
    hub.subscribe(client, ONE, 1)
    if is_answered:
        hub.answer(client, state(1, 1))

    hub.offer(state(1, 2, "completed"))
    hub.unsubscribe(client, ONE)

    assert revisions(client) == [(1, 2)]


def test_state_that_a_jobs_own_subscription_brought_does_not_come_again(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe_all(client, {})
    hub.answer_all(client)
    hub.subscribe(client, ONE, None)
    hub.answer(client, state(1, 1))
    hub.offer(state(1, 2, "completed"))
    taken(client)

    hub.unsubscribe(client, ONE)

    assert revisions(client) == []


def test_newer_state_replaces_the_one_not_taken_yet(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)

    for revision in (1, 2, 3):
        hub.offer(state(1, revision))

    assert revisions(client) == [(1, 3)]


@pytest.mark.parametrize("late", [2, 3])
def test_state_that_is_not_newer_is_dropped(state: State, late: int) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.offer(state(1, 3))
    taken(client)

    accepted = hub.offer(state(1, late))

    assert not accepted
    assert taken(client) == []


def test_late_state_does_not_bring_a_finished_job_back(state: State) -> None:
    hub = Hub()
    hub.offer(state(1, 9, "completed"))

    hub.offer(state(1, 8))

    assert taken(hub.join(quiet)) == []


def test_count_of_zero_is_sent_as_zero(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)

    hub.offer(state(1, 1, documents=0))

    assert taken(client)[0]["document_count"] == 0


def test_terminal_state_asks_to_be_sent_at_once(state: State) -> None:
    hub = Hub()
    urgency: list[bool] = []
    hub.settle(hub.join(lambda _, urgent: urgency.append(urgent)))

    hub.offer(state(1, 1))
    hub.offer(state(1, 2, "completed"))

    assert urgency == [False, True]


def test_all_clients_get_the_same_bytes(state: State) -> None:
    hub = Hub()
    clients = [hub.join(quiet) for _ in range(3)]

    hub.offer(state(1, 1))
    frames = [client.take(client.everything, 10)[0] for client in clients]

    assert frames[0] is frames[1] is frames[2]


def test_client_takes_no_more_than_it_asks_for(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    for job in range(5):
        hub.offer(state(job))

    first = client.take(client.everything, 3)

    assert len(first) == 3
    assert [job for job, _ in revisions(client)] == [3, 4]


def test_subscribing_narrows_to_the_subscribed_jobs(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    for job in (1, 2):
        hub.subscribe(client, UUID(int=job), None)
        hub.answer(client, state(job, 1))
    taken(client)

    for job in (1, 2, 3):
        hub.offer(state(job, 2))

    assert revisions(client) == [(1, 2), (2, 2)]


def test_nothing_of_a_job_is_sent_before_the_answer_and_nothing_is_lost(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe(client, ONE, None)
    hub.offer(state(1, 7))
    before = taken(client)

    answer = hub.answer(client, state(1, 6))  # fetched before revision 7 was announced

    assert before == []
    assert answer is not None
    assert (answer.outcome, answer.revision) == (Outcome.SNAPSHOT, 7)
    assert revisions(client) == [(1, 7)]


def test_end_that_came_before_the_answer_is_in_the_answer(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe(client, ONE, None)
    hub.offer(state(1, 8, "completed"))

    hub.answer(client, state(1, 7))

    assert revisions(client) == [(1, 8)]


def test_client_that_has_the_newest_revision_is_up_to_date(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe(client, ONE, 5)

    answer = hub.answer(client, state(1, 5))
    nothing_new = taken(client)
    hub.offer(state(1, 6))

    assert answer is not None
    assert answer.outcome is Outcome.UP_TO_DATE
    assert nothing_new == []
    assert revisions(client) == [(1, 6)]


def test_subscriber_never_gets_a_revision_older_than_the_one_it_named(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe(client, ONE, 10)
    hub.answer(client, state(1, 4))

    hub.offer(state(1, 9))
    hub.offer(state(1, 11))

    assert revisions(client) == [(1, 11)]


def test_job_that_ended_long_ago_is_shown_to_its_subscriber_only(state: State) -> None:
    hub = Hub()
    everything, client = hub.join(quiet), hub.join(quiet)
    hub.subscribe(client, ONE, None)

    hub.answer(client, state(1, 4, "completed", documents=3))

    assert revisions(client) == [(1, 4)]
    assert taken(everything) == []


def test_unsubscribed_job_is_not_sent_and_others_are(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    for job in (ONE, TWO):
        hub.subscribe(client, job, None)
        hub.answer(client, state(job.int))

    hub.unsubscribe(client, ONE)
    hub.offer(state(1, 2))
    hub.offer(state(2, 2))

    assert revisions(client) == [(2, 2)]


def test_answer_to_a_subscription_that_is_gone_is_none(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.subscribe(client, ONE, None)
    hub.unsubscribe(client, ONE)

    assert hub.answer(client, state(1)) is None
    assert taken(client) == []


def test_client_that_left_holds_and_gets_nothing(state: State) -> None:
    hub = Hub()
    broad, narrow = hub.join(quiet), hub.join(quiet)
    hub.subscribe(narrow, ONE, None)
    hub.answer(narrow, state(1))
    for client in (broad, narrow):
        hub.leave(client)

    hub.offer(state(1, 2))

    assert taken(broad) == taken(narrow) == []
    assert hub.unsettled() == {ONE}  # the job itself is still live


def test_hub_drops_the_jobs_that_changed_longest_ago(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_LIVE_JOBS", 2)
    monkeypatch.setattr(hub_module, "MAX_FINISHED_JOBS", 1)
    hub = Hub()

    for job in (1, 2):
        hub.offer(state(job))
    hub.offer(state(1, 2))
    hub.offer(state(3))
    for job in (4, 5):
        hub.offer(state(job, 1, "completed"))

    assert revisions(hub.join(quiet)) == [(1, 2), (3, 1)]
    assert hub.newest(UUID(int=4)) is None
    assert hub.newest(UUID(int=5)) is not None


def test_unsettled_are_the_live_jobs_and_the_watched_ones_that_have_not_ended(state: State) -> None:
    hub = Hub()
    client = hub.join(quiet)
    hub.offer(state(1))
    for job in (2, 3):
        hub.subscribe(client, UUID(int=job), None)
    hub.answer(client, state(3, 1, "failed"))

    assert hub.unsettled() == {ONE, TWO}
