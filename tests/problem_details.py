"""What a refusal of the HTTP API says: RFC 9457 problem details."""

from typing import Any


async def problem_of(response: Any) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = await response.json()
    assert problem["status"] == response.status
    assert problem["title"]
    assert problem["detail"]
    assert problem["code"]
    return problem


async def fields_of(response: Any) -> list[str]:
    return [error["field"] for error in (await problem_of(response))["errors"]]
