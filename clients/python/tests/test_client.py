import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from aiohttp import web
from tallyho.client import Tallyho
from tallyho.crawl_rules import CrawlRules
from tallyho.errors import CrawlUnsuccessful, GatewayUnreachable, NotAGateway, NotFound, RequestConflict, RequestInvalid
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.jobs import JobStatus

if TYPE_CHECKING:
    from clients.python.tests.conftest import GatewayDouble

UNKNOWN = UUID(int=1)


async def test_creation_sends_only_the_options_that_were_set(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        job = await client.create_job(["http://site/"], options=CrawlOptions(max_pages=5), name="docs")

    assert job.job_id == gateway.job_id
    assert [request for _, request in gateway.created] == [
        {"seeds": ["http://site/"], "name": "docs", "options": {"max_pages": 5}}
    ]


async def test_creation_is_repeated_with_the_same_key_while_the_gateway_is_unavailable(
    gateway: "GatewayDouble",
) -> None:
    gateway.lose_replies = 1
    gateway.refuse_next = [web.Response(status=503), web.Response(status=504)]
    async with Tallyho(gateway.url) as client:
        await client.create_job(["http://site/"])

    assert len(gateway.created) == 2
    assert len({key for key, _ in gateway.created}) == 1


async def test_gateway_that_fails_for_a_moment_is_asked_again(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [gateway.problem(500, "internal", "An error occurred."), web.Response(status=520)]
    async with Tallyho(gateway.url) as client:
        job = await client.job(gateway.job_id)
        gateway.refuse_next = [web.Response(status=500)]
        gateway.present = gateway.state(2, JobStatus.COMPLETED)
        states = [state.revision async for state in client.watch(gateway.job_id)]

    assert (job.revision, states) == (1, [2])


async def test_job_is_deleted_though_the_answer_was_lost(gateway: "GatewayDouble") -> None:
    gateway.lose_replies = 1
    async with Tallyho(gateway.url) as client:
        deleted = await client.delete(gateway.job_id)
        with pytest.raises(NotFound):
            await client.delete(gateway.job_id)

    assert (gateway.lose_replies, deleted.job_id) == (0, gateway.job_id)


async def test_key_that_may_only_write_deletes_a_job(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [gateway.problem(403, "forbidden", "The key may not read.")]
    async with Tallyho(gateway.url) as client:
        deleted = await client.delete(gateway.job_id)

    assert (gateway.deleted, deleted.job_id) == (True, gateway.job_id)


async def test_two_creations_have_different_keys(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        await client.create_job(["http://site/"])
        await client.create_job(["http://site/"])

    assert len({key for key, _ in gateway.created}) == 2


async def test_refusal_names_the_field(gateway: "GatewayDouble") -> None:
    errors = [{"field": "seeds[0]", "message": "not an http(s)\nURL"}]
    gateway.refuse_next = [gateway.problem(422, "invalid", "The request is invalid.", errors)]
    async with Tallyho(gateway.url) as client:
        with pytest.raises(RequestInvalid) as caught:
            await client.create_job(["ftp://site/"])

    assert str(caught.value) == "seeds[0]: not an http(s) URL"
    assert (caught.value.status, caught.value.errors[0].field) == (422, "seeds[0]")


async def test_conflict_and_unknown_job_have_their_own_errors(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [gateway.problem(409, "conflict", "This key belongs to another request.")]
    async with Tallyho(gateway.url) as client:
        with pytest.raises(RequestConflict, match="another request"):
            await client.create_job(["http://site/"])
        for call in (client.job, client.cancel, client.pause, client.resume, client.delete):
            with pytest.raises(NotFound, match="no job"):
                await call(UNKNOWN)
        with pytest.raises(NotFound):
            await anext(client.watch(UNKNOWN))


async def test_another_web_server_is_told_from_a_gateway(gateway: "GatewayDouble") -> None:
    gateway.refuse_next = [web.Response(status=404), web.Response(text="<html>"), web.Response(text="hello")]
    async with Tallyho(gateway.url) as client:
        with pytest.raises(NotAGateway):
            await client.job(gateway.job_id)
        with pytest.raises(NotAGateway):
            await client.job(gateway.job_id)
        with pytest.raises(NotAGateway):
            await anext(client.watch(gateway.job_id))


async def test_gateway_that_never_answered_is_given_up_on_first() -> None:
    async with Tallyho("http://127.0.0.1:1", patience=60, first_patience=0.2) as client:
        with pytest.raises(GatewayUnreachable, match=r"http://127\.0\.0\.1:1"):
            await anext(client.watch(UNKNOWN))


async def test_gateway_whose_tracker_is_away_is_waited_for(gateway: "GatewayDouble") -> None:
    gateway.unavailable_subscriptions = 4
    gateway.present = gateway.state(1, JobStatus.COMPLETED)
    async with Tallyho(gateway.url, first_patience=0) as client:
        states = [state async for state in client.watch(gateway.job_id)]

    assert len(states) == 1
    assert len(gateway.subscriptions) == 5


async def test_gateway_that_stays_away_ends_the_watch_with_an_error(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url, patience=0.5) as client:
        states = client.watch(gateway.job_id)
        await anext(states)
        await gateway.stop()
        with pytest.raises(GatewayUnreachable):
            await anext(states)


async def test_watch_yields_the_snapshot_then_newer_states_until_the_terminal_one(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(3, documents=2)
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        revisions = [(await anext(states)).revision]
        for new in (gateway.state(4, documents=3), gateway.state(7, JobStatus.COMPLETED, 5)):
            await gateway.publish(new)
            revisions.append((await anext(states)).revision)
        revisions += [state.revision async for state in states]

    assert revisions == [3, 4, 7]


async def test_slow_watcher_gets_the_newest_state_not_those_before(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(1)
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        await anext(states)
        for revision in range(2, 500):
            await gateway.publish(gateway.state(revision))
        async with asyncio.timeout(30):
            await gateway.publish(gateway.state(500, JobStatus.COMPLETED))
            seen = [state.revision async for state in states]

    assert seen[-1] == 500
    assert len(seen) < 50


async def test_watch_drops_states_that_are_not_newer(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(5, documents=4)
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        first = await anext(states)
        await gateway.publish(gateway.state(4, documents=3), keep=False)
        await gateway.publish(gateway.state(5, documents=3), keep=False)
        await gateway.publish(gateway.state(6, JobStatus.COMPLETED, 4))
        rest = [state async for state in states]

    assert [state.revision for state in (first, *rest)] == [5, 6]


async def test_watch_survives_lost_connections_and_resumes_by_revision(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        seen = [await anext(states)]
        gateway.drop()
        gateway.present = gateway.state(2, documents=1)
        seen.append(await anext(states))
        gateway.drop()
        gateway.present = gateway.state(9, JobStatus.COMPLETED, 8)
        seen += [state async for state in states]

    assert [state.revision for state in seen] == [1, 2, 9]
    assert [subscription.get("revision") for subscription in gateway.subscriptions] == [None, 1, 2]


async def test_watch_survives_a_restart_of_the_gateway(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        await anext(states)
        await gateway.stop()
        gateway.refuse_next = [web.Response(status=503)]
        gateway.present = gateway.state(2, JobStatus.FAILED)
        await gateway.start()
        rest = [state async for state in states]

    assert [state.status for state in rest] == [JobStatus.FAILED]


async def test_watch_answers_application_pings(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        states = client.watch(gateway.job_id)
        await anext(states)
        for socket in gateway.sockets:
            await gateway.send(socket, "ping", {})
            await gateway.send(socket, "something_of_a_newer_gateway", {"job_id": None})
        await gateway.publish(gateway.state(2))
        await anext(states)
        await gateway.publish(gateway.state(3, JobStatus.COMPLETED))
        assert [state.revision async for state in states] == [3]

    assert gateway.pongs == 1


async def test_watch_can_start_after_a_known_revision(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(6, JobStatus.COMPLETED)
    async with Tallyho(gateway.url) as client:
        states = [state async for state in client.watch(gateway.job_id, revision=5)]

    assert [state.revision for state in states] == [6]
    assert gateway.subscriptions == [{"job_id": str(gateway.job_id), "revision": 5}]


async def test_watch_after_the_terminal_state_ends_at_once(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(6, JobStatus.COMPLETED)
    async with Tallyho(gateway.url) as client:
        states = [state async for state in client.watch(gateway.job_id, revision=6)]

    assert states == []


async def test_job_is_followed_however_its_id_is_spelled(gateway: "GatewayDouble") -> None:
    gateway.document_count = 2
    gateway.present = gateway.state(6, JobStatus.COMPLETED, 2)
    async with asyncio.timeout(10), Tallyho(gateway.url) as client:
        states = [state.revision async for state in client.watch(str(gateway.job_id).upper())]
        documents = client.documents(f"{{{gateway.job_id}}}", live=True)
        ordinals = [document.ordinal async for document in documents]

    assert (states, ordinals) == ([6], [1, 2])


async def test_documents_stream_goes_on_where_it_broke(gateway: "GatewayDouble") -> None:
    gateway.document_count = 250
    gateway.cut_documents_after = 120
    async with Tallyho(gateway.url) as client:
        ordinals = [document.ordinal async for document in client.documents(gateway.job_id)]

    assert ordinals == list(range(1, 251))
    assert gateway.document_requests == 2


async def test_live_documents_come_as_they_are_saved_and_end_with_the_job(gateway: "GatewayDouble") -> None:
    gateway.document_count = 5
    async with Tallyho(gateway.url) as client:
        documents = client.documents(gateway.job_id, after=2, live=True)
        ordinals = [(await anext(documents)).ordinal for _ in range(3)]
        await gateway.save(8)
        await gateway.publish(gateway.state(2, JobStatus.COMPLETED, 9))
        await gateway.save(9)
        ordinals += [document.ordinal async for document in documents]

    assert ordinals == list(range(3, 10))


async def test_live_documents_of_a_job_without_any_end_with_the_job(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(2, JobStatus.FAILED)
    async with Tallyho(gateway.url) as client:
        assert [document async for document in client.documents(gateway.job_id, live=True)] == []


@pytest.mark.parametrize("fault", ["cut_documents_after", "leave_out"])
async def test_live_documents_have_no_gap_and_no_repeat_when_something_is_lost(
    gateway: "GatewayDouble", fault: str
) -> None:
    gateway.document_count = 30
    gateway.present = gateway.state(2, JobStatus.COMPLETED, 30)
    setattr(gateway, fault, 12)
    async with Tallyho(gateway.url) as client:
        ordinals = [document.ordinal async for document in client.documents(gateway.job_id, live=True)]

    assert ordinals == list(range(1, 31))
    assert gateway.document_requests == 2


async def test_document_is_read_whole(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        document = await client.document(UUID(int=7))
        source = await client.html(UUID(int=7))
        with pytest.raises(NotFound, match="no document"):
            await client.document(UNKNOWN)

    assert document.content.startswith("# Seven")
    assert source.startswith("<p>Sieben glückliche")


async def test_crawl_waits_to_the_end_and_tells_each_state(gateway: "GatewayDouble") -> None:
    told: list[int] = []
    async with Tallyho(gateway.url) as client:
        crawling = asyncio.create_task(
            client.crawl(
                "http://site/", name="docs", max_pages=5, on_progress=lambda state: told.append(state.revision)
            )
        )
        await gateway.subscribed()
        await gateway.publish(gateway.state(2, JobStatus.COMPLETED, 7))
        last = await crawling

    assert (last.status, last.document_count, told[-1]) == (JobStatus.COMPLETED, 7, 2)
    assert gateway.created[0][1] == {"seeds": ["http://site/"], "name": "docs", "options": {"max_pages": 5}}


async def test_crawl_that_failed_raises_when_it_is_checked(gateway: "GatewayDouble") -> None:
    gateway.present = gateway.state(2, JobStatus.FAILED).model_copy(update={"error": "no document was saved"})
    async with Tallyho(gateway.url) as client:
        assert (await client.crawl("http://site/")).status is JobStatus.FAILED
        with pytest.raises(CrawlUnsuccessful, match="failed: no document was saved") as caught:
            await client.crawl("http://site/", check=True)

    assert caught.value.state.revision == 2


async def test_rule_that_can_not_be_is_refused_before_anything_is_sent(gateway: "GatewayDouble") -> None:
    async with Tallyho(gateway.url) as client:
        with pytest.raises(RequestInvalid, match="max_pages: "):
            await client.crawl("http://site/", max_pages=0)
        with pytest.raises(TypeError, match="no rule 'max_page'; it has max_pages, "):
            await client.crawl("http://site/", max_page=5)  # type: ignore[call-arg]

    assert gateway.created == []


def test_every_rule_of_the_contract_is_a_keyword() -> None:
    assert CrawlRules.__annotations__.keys() == CrawlOptions.model_fields.keys()


async def test_jobs_are_read_page_by_page(gateway: "GatewayDouble") -> None:
    gateway.job_pages = 3
    async with Tallyho(gateway.url) as client:
        found = [state.job_id async for state in client.jobs(live=True)]

    assert found == [gateway.job_id] * 3
