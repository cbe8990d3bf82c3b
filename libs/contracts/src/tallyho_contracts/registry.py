"""Which message types exist: one row each, the only place where a type's name is bound to its model."""

from dataclasses import dataclass

from tallyho_contracts import crawls, documents, jobs, logs, pages, replies, urls
from tallyho_contracts.event import Message

EVENTS = "tallyho.events"
COMMANDS = "tallyho.commands"
REPLIES = "tallyho.replies"


@dataclass(frozen=True)
class MessageType:
    """A type's name (also its routing key), its data, where it is published, and for a request its reply's type.

    A reply has no exchange: it goes to the queue that its request named.
    """

    name: str
    data: type[Message]
    exchange: str | None
    reply: str | None = None


_ROWS = (
    MessageType("job.create.v1", jobs.JobCreate, COMMANDS, reply="job.create.reply.v1"),
    MessageType("job.cancel.v1", jobs.JobCancel, COMMANDS, reply="job.reply.v1"),
    MessageType("job.pause.v1", jobs.JobPause, COMMANDS, reply="job.reply.v1"),
    MessageType("job.resume.v1", jobs.JobResume, COMMANDS, reply="job.reply.v1"),
    MessageType("job.change.v1", jobs.JobChange, COMMANDS, reply="job.reply.v1"),
    MessageType("job.retry.v1", jobs.JobRetry, COMMANDS, reply="job.create.reply.v1"),
    MessageType("job.delete.v1", jobs.JobDelete, COMMANDS, reply="job.reply.v1"),
    MessageType("job.get.v1", jobs.JobGet, COMMANDS, reply="job.reply.v1"),
    MessageType("job.list.v1", jobs.JobsQuery, COMMANDS, reply="job.list.reply.v1"),
    MessageType("job.documents.v1", documents.DocumentsQuery, COMMANDS, reply="job.documents.reply.v1"),
    MessageType("job.pages.v1", pages.PagesQuery, COMMANDS, reply="job.pages.reply.v1"),
    MessageType("job.summary.v1", jobs.JobSummaryQuery, COMMANDS, reply="job.summary.reply.v1"),
    MessageType("job.log.tail.v1", logs.JobLogQuery, COMMANDS, reply="job.log.tail.reply.v1"),
    MessageType("document.list.v1", documents.SavedDocumentsQuery, COMMANDS, reply="document.list.reply.v1"),
    MessageType("document.get.v1", documents.DocumentGet, COMMANDS, reply="document.reply.v1"),
    MessageType("document.batch.v1", documents.DocumentsGet, COMMANDS, reply="document.batch.reply.v1"),
    MessageType("url.count.v1", urls.UrlsCount, COMMANDS, reply="url.count.reply.v1"),
    MessageType("url.list.v1", urls.SkippedUrlsQuery, COMMANDS, reply="url.list.reply.v1"),
    MessageType("crawl.start.v1", crawls.CrawlStart, COMMANDS),
    MessageType("crawl.pause.v1", crawls.CrawlPause, COMMANDS),
    MessageType("crawl.resume.v1", crawls.CrawlResume, COMMANDS),
    MessageType("crawl.cancel.v1", crawls.CrawlCancel, COMMANDS),
    MessageType("crawl.change.v1", crawls.CrawlChange, COMMANDS),
    MessageType("crawl.delete.v1", crawls.CrawlDelete, COMMANDS),
    MessageType("crawl.started.v1", crawls.CrawlStarted, EVENTS),
    MessageType("crawl.changed.v1", crawls.CrawlChanged, EVENTS),
    MessageType("crawl.stopped.v1", crawls.CrawlStopped, EVENTS),
    MessageType("document.saved.v1", documents.DocumentSaved, EVENTS),
    MessageType("page.started.v1", pages.PageStarted, EVENTS),
    MessageType("page.finished.v1", pages.PageFinished, EVENTS),
    MessageType("job.progress.v1", jobs.JobState, EVENTS),
    MessageType("job.log.v1", logs.JobLog, EVENTS),
    MessageType("job.create.reply.v1", jobs.JobCreated, None),
    MessageType("job.reply.v1", jobs.Job, None),
    MessageType("job.list.reply.v1", jobs.JobList, None),
    MessageType("job.documents.reply.v1", documents.DocumentList, None),
    MessageType("job.pages.reply.v1", pages.PageList, None),
    MessageType("job.summary.reply.v1", jobs.JobSummary, None),
    MessageType("job.log.tail.reply.v1", logs.JobLogTail, None),
    MessageType("document.list.reply.v1", documents.SavedDocumentList, None),
    MessageType("document.reply.v1", documents.StoredDocument, None),
    MessageType("document.batch.reply.v1", documents.StoredDocuments, None),
    MessageType("url.count.reply.v1", urls.UrlsCounted, None),
    MessageType("url.list.reply.v1", urls.SkippedUrlList, None),
    MessageType("request.refused.v1", replies.Refused, None),
)

MESSAGES: dict[str, MessageType] = {row.name: row for row in _ROWS}
TYPE_OF: dict[type[Message], MessageType] = {row.data: row for row in _ROWS}
