"""How waiting events are grouped into messages."""

from uuid import UUID

from tallyho_postgres.outbox import BATCH_BYTES, BATCH_EVENTS, OutboxEvent, in_batches


def event(number: int, *, type_: str = "page.started.v1", routing_key: str = "", size: int = 10) -> OutboxEvent:
    return OutboxEvent(UUID(int=number), "tallyho.events", routing_key or type_, type_, b"x" * size)


def numbers(events: list[OutboxEvent]) -> list[list[int]]:
    return [[event.event_id.int for event in batch] for batch in in_batches(events)]


def test_nothing_waiting_is_no_message() -> None:
    assert numbers([]) == []


def test_events_of_one_destination_keep_their_order_in_one_message() -> None:
    assert numbers([event(3), event(1), event(2)]) == [[3, 1, 2]]


def test_events_of_different_types_or_destinations_never_share_a_message() -> None:
    mixed = [event(1), event(2, type_="document.saved.v1"), event(3), event(4, routing_key="page.started.v1.a")]

    assert numbers(mixed) == [[2], [1, 3], [4]]


def test_message_holds_at_most_a_hundred_events() -> None:
    sizes = [len(batch) for batch in in_batches([event(number) for number in range(250)])]

    assert sizes == [BATCH_EVENTS, BATCH_EVENTS, 50]


def test_message_holds_at_most_256_kilobytes() -> None:
    half = BATCH_BYTES // 2

    assert numbers([event(1, size=half), event(2, size=half), event(3, size=1)]) == [[1, 2], [3]]
    assert numbers([event(1, size=half), event(2, size=half + 1), event(3, size=1)]) == [[1], [2, 3]]


def test_event_that_is_larger_than_a_message_goes_alone() -> None:
    huge = BATCH_BYTES + 1

    assert numbers([event(1), event(2, size=huge), event(3)]) == [[1], [2], [3]]
