"""Tallyho from a program: `Tallyho` with async and await, `SyncTallyho` without."""

from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import Document, StoredDocument
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.logs import JobLog, LogLevel
from tallyho_contracts.pages import Page, PageState

from tallyho.client import Tallyho
from tallyho.errors import (
    CrawlUnsuccessful,
    FieldError,
    GatewayUnreachable,
    NotAGateway,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    RequestConflict,
    RequestInvalid,
    RequestRefused,
    TallyhoError,
)
from tallyho.sync import SyncTallyho

__all__ = [
    "CrawlOptions",
    "CrawlUnsuccessful",
    "Document",
    "FieldError",
    "GatewayUnreachable",
    "Job",
    "JobLog",
    "JobState",
    "JobStatus",
    "LogLevel",
    "NotAGateway",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "Page",
    "PageState",
    "RequestConflict",
    "RequestInvalid",
    "RequestRefused",
    "StoredDocument",
    "SyncTallyho",
    "Tallyho",
    "TallyhoError",
]
