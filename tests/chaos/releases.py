"""Messages as releases before and after this one would write them, within the same version of each contract."""

import json

# Fields of `data` that readers can do without.
OPTIONAL = ("title", "reason", "status_code", "skipped_links", "job_pages")
NEWS = {"from": "a later release", "nested": [1, None]}


def translate(body: bytes, release: str) -> bytes:
    """An event as `release` would write it: `newer` adds fields, `older` lacks the optional ones."""
    if not release:
        return body
    event = json.loads(body)
    if release == "newer":
        event |= {"news": NEWS}
        event["data"] |= {"news": NEWS}
    else:
        event.pop("traceparent", None)
        for name in OPTIONAL:
            event["data"].pop(name, None)
    return json.dumps(event).encode()
