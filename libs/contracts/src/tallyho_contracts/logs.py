"""Log lines about jobs, for the people who watch them. Best effort: nothing may be decided by them."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, Field

from tallyho_contracts.event import Message, Text


class LogLevel(StrEnum):
    """How bad it is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class JobLog(Message):
    """`job.log.v1`, crawler and job-tracker to job-tracker and gateways: one line about a job.

    It is the payload of `job_log` to clients, too. Lines may be missing: a job that has much to say is cut short, and
    says how many lines were left out.
    """

    job_id: UUID
    timestamp: AwareDatetime
    level: LogLevel
    message: Text = Field(min_length=1, max_length=1000)
    fields: dict[Text, Text | int | float | bool | None] = Field(
        default={}, description="What the line is about, for programs: `url`, `reason`, `status_code`, …"
    )


class JobLogQuery(Message):
    """`job.log.tail.v1`, gateway to job-tracker: the newest lines of a job's log that are kept."""

    job_id: UUID
    limit: int = Field(default=200, ge=1, le=1000)


class JobLogTail(Message):
    """The reply to `job.log.tail.v1`. Of each job so many lines are kept as the tracker says; older ones are gone."""

    lines: tuple[JobLog, ...] = Field(description="The oldest first.")
