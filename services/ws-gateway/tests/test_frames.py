"""What a client's frame is read as, and what the answer says when it can't be."""

import json
import struct
from collections.abc import Callable

import pytest
from tallyho_contracts.jobs import JobState
from ws_gateway import frames
from ws_gateway.frames import BadFrameError

REVISIONS = "revisions"
JOB = "00000000-0000-0000-0000-000000000001"


def test_state_of_a_job_is_forwarded_whole(state: Callable[..., JobState]) -> None:
    sent = state(1, 3, documents=0)

    frame = json.loads(frames.progress(sent))

    assert frame["type"] == "parent_job_progress"
    assert frame["payload"] == sent.model_dump(mode="json")


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("hello", "not_json", None),
        ("", "not_json", None),
        ("[]", "invalid", "frame"),
        ("{}", "invalid", "type"),
        ('{"type": 5}', "unknown_type", "type"),
        ('{"type": "shout", "payload": {}}', "unknown_type", "type"),
        ('{"type": "subscribe"}', "invalid", "payload"),
        ('{"type": "subscribe", "payload": 7}', "invalid", "payload"),
        ('{"type": "subscribe", "payload": {"stream": "document_saved"}}', "invalid", "job_id"),
        ('{"type": "subscribe", "payload": {"stream": "job_log"}}', "invalid", "job_id"),
        ('{"type": "subscribe", "payload": {"stream": "pages"}}', "invalid", "stream"),
        ('{"type": "subscribe", "payload": {"revision": 1}}', "invalid", "revision"),
        ('{"type": "subscribe", "payload": {"interval_ms": 19}}', "invalid", "interval_ms"),
        ('{"type": "subscribe", "payload": {"interval_ms": 10001}}', "invalid", "interval_ms"),
        ('{"type": "subscribe", "payload": {"ack_window": 0}}', "invalid", "ack_window"),
        (f'{{"type": "subscribe", "payload": {{"job_id": "{JOB}", "ordinal": 1}}}}', "invalid", "ordinal"),
        (
            f'{{"type": "subscribe", "payload": {{"job_id": "{JOB}", "revisions": {{"{JOB}": 1}}}}}}',
            "invalid",
            "revisions",
        ),
        ('{"type": "unsubscribe", "payload": {"stream": "job_log"}}', "invalid", "job_id"),
        ('{"type": "ack", "payload": {"received": -1}}', "invalid", "received"),
        ('{"type": "subscribe", "payload": {"job_id": "x"}}', "invalid", "job_id"),
        (f'{{"type": "subscribe", "payload": {{"job_id": "{JOB}", "revision": -1}}}}', "invalid", "revision"),
        (f'{{"type": "subscribe", "payload": {{"job_id": "{JOB}", "revision": "1"}}}}', "invalid", "revision"),
        (f'{{"type": "subscribe", "payload": {{"job_id": "{JOB}", "since": 1}}}}', "invalid", "since"),
        (f'{{"type": "unsubscribe", "payload": {{"job": "{JOB}"}}}}', "invalid", "job"),
        ("[" * 8000, "not_json", None),
    ],
)
def test_frame_that_cannot_be_used_is_answered_with_its_fault(text: str, code: str, field: str | None) -> None:
    with pytest.raises(BadFrameError) as bad:
        frames.parse(text)

    assert (bad.value.error.code, bad.value.error.field) == (code, field)
    assert bad.value.error.message


@pytest.mark.parametrize(
    ("payload", "job_id", "stream"),
    [
        ({"job_id": "5f0c2a52", "stream": "job_log"}, "5f0c2a52", "job_log"),
        ({"job_id": "5f0c2a52"}, "5f0c2a52", None),
        ({"job_id": JOB, "stream": "pages"}, JOB, "pages"),
        ({"job_id": JOB, "revision": -1}, JOB, None),
        ({"job_id": "x" * 1_000}, "x" * 200, None),
        ({"job_id": 5, "stream": ["progress"]}, None, None),
        ({"job_id": None, "stream": "progress", "interval_ms": 1}, None, "progress"),
        ([], None, None),
    ],
)
def test_fault_names_the_job_and_the_stream_as_they_were_sent(
    payload: object, job_id: str | None, stream: str | None
) -> None:
    with pytest.raises(BadFrameError) as bad:
        frames.parse(json.dumps({"type": "subscribe", "payload": payload}))

    assert (bad.value.error.job_id, bad.value.error.stream) == (job_id, stream)


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_text_frame_has_the_length_that_the_protocol_says(size: int) -> None:
    frame = frames.on_the_wire(b"x" * size)

    assert frame[0] == 0x81
    if size < 126:
        assert frame[1] == size
    elif size < 65_536:
        assert frame[1:4] == b"\x7e" + struct.pack("!H", size)
    else:
        assert frame[1:10] == b"\x7f" + struct.pack("!Q", size)
    assert frame.endswith(b"x" * size)
