"""A gateway of a few lines that speaks the real one's protocol, on a real port of this process."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiohttp import WSMsgType, web
from tallyho_contracts.crawls import CrawlOptions
from tallyho_contracts.documents import StoredDocument
from tallyho_contracts.jobs import Job, JobState, JobStatus
from tallyho_contracts.logs import JobLog, JobLogTail, LogLevel

# A shell lets what it runs in the background ignore Ctrl-C, and these tests what they start: some send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

JOB_ID = UUID("0191d3a0-0000-7000-8000-000000000001")
NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)


STORED = StoredDocument(
    document_id=UUID(int=7),
    url="http://site/7",
    title="Seven",
    content="# Seven\n\x1b[2J lucky",
    links=("http://site/8",),
    content_hash="0" * 64,
    status_code=200,
    content_type="text/html",
    created_at=NOON,
    saved_at=NOON,
)

SOURCE = "<p>Sieben glückliche\x1b[2J"

LINES = (
    JobLog(job_id=JOB_ID, timestamp=NOON, level=LogLevel.INFO, message="started"),
    JobLog(
        job_id=JOB_ID,
        timestamp=NOON,
        level=LogLevel.WARNING,
        message="page failed: http_404",
        fields={"url": "http://site/\x1b[2J", "reason": "http_404", "status_code": None},
    ),
)


def state(revision: int, status: JobStatus = JobStatus.RUNNING, documents: int = 0) -> JobState:
    return JobState(
        job_id=JOB_ID,
        revision=revision,
        status=status,
        progress_text=f"0 pending, 0 running, {documents} completed, 0 failed",
        timestamp=NOON,
        total_children=documents,
        pending_children=0,
        running_children=0,
        completed_children=documents,
        failed_children=0,
        skipped_children=0,
        cancelled_children=0,
        document_count=documents,
        documents_per_second=0,
        created_at=NOON,
        started_at=NOON,
        finished_at=NOON if status.is_terminal else None,
    )


class GatewayDouble:
    """Has one job, whose present state is `present`; keeps what clients sent."""

    job_id = JOB_ID

    def __init__(self) -> None:
        self.state = state
        self.problem = problem
        self.url_of = url
        self.present = state(1)
        self.document_count = 0
        self.skipped_ordinals: set[int] = set()
        self.saved: list[UUID] = []
        self.urls_met = 0
        self.beyond = 0
        self.changes: list[dict[str, Any]] = []
        self.urls: list[dict[str, Any]] = []
        self.document_requests = 0
        self.job_pages = 1
        self.deleted = False
        self.lose_replies = 0
        self.unavailable_subscriptions = 0
        self.refuse_next: list[web.Response] = []
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.subscriptions: list[dict[str, Any]] = []
        self.pongs = 0
        self.sockets: set[web.WebSocketResponse] = set()
        self.followers: dict[web.WebSocketResponse, int] = {}
        self.cut_documents_after: int | None = None
        self.leave_out: int | None = None
        self.key: str | None = None
        self.close_next: list[tuple[int, str]] = []
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._subscribed = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._refuse])
        app.router.add_post("/v1/jobs", self._create)
        app.router.add_get("/v1/jobs", self._list)
        app.router.add_get("/v1/jobs/{id}", self._job)
        app.router.add_delete("/v1/jobs/{id}", self._delete)
        app.router.add_post("/v1/jobs/{id}/{command:cancel|pause|resume}", self._job)
        app.router.add_patch("/v1/jobs/{id}", self._change)
        app.router.add_post("/v1/jobs/{id}/retry", self._job)
        app.router.add_get("/v1/jobs/{id}/documents", self._documents)
        app.router.add_get("/v1/jobs/{id}/contents", self._documents)
        app.router.add_get("/v1/jobs/{id}/saved-documents", self._saved_documents)
        app.router.add_get("/v1/jobs/{id}/ledger", self._ledger)
        app.router.add_get("/v1/jobs/{id}/urls", self._urls)
        app.router.add_get("/v1/jobs/{id}/log", self._log)
        app.router.add_get("/v1/documents/{id}", self._document)
        app.router.add_get("/v1/ws", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.drop()
        if self._runner is not None:
            await self._runner.cleanup()

    def drop(self) -> None:
        """Cut every connection, as a kill does."""
        for socket in self.sockets | self.followers.keys():
            cut(socket)
        self.sockets.clear()
        self.followers.clear()

    async def subscribed(self) -> None:
        """Wait for the next subscription."""
        self._subscribed.clear()
        await self._subscribed.wait()

    async def publish(self, new: JobState, *, keep: bool = True) -> None:
        """Make this the present state (unless not `keep`) and send it to who watches."""
        if keep:
            self.present = new
        for socket in list(self.sockets):
            await self.send(socket, "parent_job_progress", new.model_dump(mode="json"))

    async def save(self, documents: int) -> None:
        """Have so many documents, and send the new ones to who follows them."""
        self.document_count = documents
        for socket in list(self.followers):
            await self._send_documents(socket)

    async def send(self, socket: web.WebSocketResponse, kind: str, payload: dict[str, Any]) -> None:
        await socket.send_str(json.dumps({"type": kind, "payload": payload}))

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.refuse_next:
            return self.refuse_next.pop(0)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            if request.path != "/v1/ws":
                return problem(401, "unauthorized", "A valid key is needed.")
            self.close_next = [(4401, '{"reason":"a valid key is needed","retry":false}')]
        if self.deleted and "id" in request.match_info:
            return problem(404, "not_found", "no such job")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _create(self, request: web.Request) -> web.Response:
        self.created.append((request.headers["Idempotency-Key"], await request.json()))
        if self.lose_replies and request.transport is not None:
            self.lose_replies -= 1
            request.transport.abort()
        return web.Response(status=201, text=self._as_job().model_dump_json(), content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
        self.job_pages -= 1
        next_ = str(JOB_ID) if self.job_pages > 0 else None
        return web.json_response({"jobs": [self.present.model_dump(mode="json")], "next": next_})

    async def _job(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != str(JOB_ID):
            return problem(404, "not_found", f"no job {request.match_info['id']}")
        return web.Response(text=self._as_job().model_dump_json(), content_type="application/json")

    async def _delete(self, request: web.Request) -> web.Response:
        answer = await self._job(request)
        self.deleted = answer.status == 200
        if self.lose_replies and request.transport is not None:
            self.lose_replies -= 1
            request.transport.abort()
        return answer

    async def _change(self, request: web.Request) -> web.Response:
        self.changes.append(await request.json())
        return await self._job(request)

    async def _documents(self, request: web.Request) -> web.StreamResponse:
        self.document_requests += 1
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        for ordinal in range(int(request.query.get("after", "0")) + 1, self.document_count + 1):
            if ordinal in self.skipped_ordinals:
                continue
            item = document(ordinal)
            if request.path.endswith("/contents"):
                item = {"document": item, "stored": STORED.model_dump(mode="json")}
            await response.write(json.dumps(item).encode() + b"\n")
            if ordinal == self.cut_documents_after:
                self.cut_documents_after = None
                assert request.transport is not None
                request.transport.close()
        return response

    async def _log(self, request: web.Request) -> web.Response:
        lines = LINES[-int(request.query["limit"]) :]
        return web.Response(text=JobLogTail(lines=lines).model_dump_json(), content_type="application/json")

    async def _document(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != str(STORED.document_id):
            return problem(404, "not_found", f"no document {request.match_info['id']}")
        if request.query.get("format") == "html":
            return web.Response(text=SOURCE, content_type="text/html")
        return web.Response(text=STORED.model_dump_json(), content_type="application/json")

    async def _send_documents(self, socket: web.WebSocketResponse) -> None:
        """In frames of three, the last document of one repeated in the next: a client must not take it twice."""
        for first in range(self.followers[socket] + 1, self.document_count + 1, 2):
            ordinals = [one for one in range(first, min(first + 3, self.document_count + 1)) if one != self.leave_out]
            self.leave_out = None if self.leave_out and self.leave_out < first + 3 else self.leave_out
            documents = [document(ordinal) for ordinal in ordinals]
            await self.send(socket, "document_saved", {"job_id": str(JOB_ID), "documents": documents})
            self.followers[socket] = ordinals[-1]
            if self.cut_documents_after is not None and ordinals[-1] >= self.cut_documents_after:
                self.cut_documents_after = None
                self.followers.pop(socket)
                cut(socket)
                return

    async def _saved_documents(self, request: web.Request) -> web.Response:
        after = UUID(request.query.get("after", str(UUID(int=0))))
        found = [str(one) for one in self.saved if one > after][:2]
        more = bool(found) and found[-1] != str(self.saved[-1])
        return web.json_response({"document_ids": found, "next": found[-1] if more else None})

    async def _ledger(self, _: web.Request) -> web.Response:
        entries = [{"state": url["state"], "reason": url["reason"], "urls": 1} for url in self.urls]
        counted = {"urls_met": self.urls_met, "beyond": self.beyond}
        return web.json_response({"job_id": str(JOB_ID), **counted, "entries": entries})

    async def _urls(self, request: web.Request) -> web.Response:
        wanted = [url for url in self.urls if request.query.get("reason") in (None, url["reason"])]
        wanted = [url for url in wanted if request.query.get("state") in (None, url["state"])]
        first = int(request.query.get("after", 0))
        more = first + 2 < len(wanted)
        return web.json_response({"urls": wanted[first : first + 2], "next": str(first + 2) if more else None})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self.close_next:
            code, reason = self.close_next.pop(0)
            await socket.close(code=code, message=reason.encode())
            return socket
        async for message in socket:
            frame = json.loads(message.data) if message.type is WSMsgType.TEXT else {}
            if frame.get("type") == "pong":
                self.pongs += 1
            elif frame.get("type") == "subscribe":
                await self._subscribe(socket, frame["payload"])
        self.sockets.discard(socket)
        self.followers.pop(socket, None)
        return socket

    async def _subscribe(self, socket: web.WebSocketResponse, payload: dict[str, Any]) -> None:
        self.subscriptions.append(payload)
        if self.unavailable_subscriptions:
            self.unavailable_subscriptions -= 1
            await self.send(socket, "error", {"code": "unavailable", "message": "no answer", "job_id": str(JOB_ID)})
            return
        if UUID(payload["job_id"]) != JOB_ID:
            error = {"code": "not_found", "message": "no such job", "job_id": payload["job_id"], "field": "job_id"}
            await self.send(socket, "error", error)
            return
        if payload.get("stream") == "document_saved":
            self.document_requests += 1
            self.followers[socket] = payload["ordinal"]
            await self._send_documents(socket)
            self._subscribed.set()
            return
        up_to_date = payload.get("revision", -1) >= self.present.revision
        answer = {"job_id": str(JOB_ID), "revision": self.present.revision}
        await self.send(socket, "subscribed", answer | {"outcome": "up_to_date" if up_to_date else "snapshot"})
        if not up_to_date:
            await self.send(socket, "parent_job_progress", self.present.model_dump(mode="json"))
        self.sockets.add(socket)
        self._subscribed.set()

    def _as_job(self) -> Job:
        return Job(**self.present.model_dump(), seeds=("http://site/",), options=CrawlOptions())


def document(ordinal: int) -> dict[str, Any]:
    return {
        "document_id": str(UUID(int=ordinal)),
        "ordinal": ordinal,
        "source_url": f"http://site/{ordinal}",
        "title": "Ω" * 500,
        "saved_at": NOON.isoformat(),
    }


def url(number: int, state: str, reason: str | None) -> dict[str, Any]:
    return {"page_id": str(UUID(int=number)), "url": f"http://site/{number}", "state": state, "reason": reason}


def cut(socket: web.WebSocketResponse) -> None:
    """Cut a connection, as a kill does."""
    transport = socket._req.transport if socket._req else None
    if transport is not None:
        transport.abort()


def problem(status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> web.Response:
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail, "code": code}
    return web.json_response(body | {"errors": errors or []}, status=status, content_type="application/problem+json")


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayDouble]:
    double = GatewayDouble()
    await double.start()
    yield double
    await double.stop()


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


class Command:
    """The command line in a process of its own, against the double."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def start(self, *words: str, **env: str) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        start = asyncio.create_subprocess_exec
        return await start(
            sys.executable, "-m", "tallyho", *words, stdout=pipe, stderr=pipe, env={"TALLYHO_URL": self._url, **env}
        )

    async def __call__(self, *words: str, **env: str) -> Ran:
        return await ended(await self.start(*words, **env))


async def ended(process: asyncio.subprocess.Process) -> Ran:
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture
def command(gateway: GatewayDouble) -> Command:
    return Command(gateway.url)
