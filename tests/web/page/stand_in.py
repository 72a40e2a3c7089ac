"""A stand-in for the agent's web server: the same JSON, made-up scans, and every refusal on demand.

What a test needs to happen at a chosen moment (another clinician is faster, the line breaks, 10,000 scans) happens
here; the real agent is driven in the tests beside.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from typing_extensions import Self

import agent.web
from tests.web.page.scenes import Json, moment, picture, status, summary

PAGE = Path(agent.web.__file__).parent / "page"
TOKEN = "dse_the-tests-own-token"  # noqa: S105 - nobody's
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
COOKIE = "dermascan_session"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class StandIn:
    """The server and what it knows. A context manager; change ``scans`` and ``status`` as a test wants."""

    def __init__(self) -> None:
        self.scans: list[Json] = []
        """Newest last."""
        self.status = status()
        self.role = "clinician"
        self.signed_in: set[str] = set()
        self.refuse_verdict: Callable[[Json], Response | None] = lambda _: None
        """Asked before a verdict is taken; a response refuses it."""
        self.taking = threading.Event()
        """While it is clear, verdicts wait for their answer."""
        self.taking.set()
        self.given: list[tuple[str, Json]] = []
        """Idempotency keys and verdicts as they came in."""
        self.asked: list[str] = []
        """Paths with queries, in the order asked."""
        self._kept: dict[str, Json] = {}
        self._clients: set[asyncio.Queue[bytes | None]] = set()
        self._number = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; may be called again after ``stop``, on the same port."""
        config = uvicorn.Config(
            self._app(),
            host="127.0.0.1",
            port=self.port,
            log_level="critical",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the stand-in did not start"
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop listening and drop every line."""
        self.drop_lines()
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve())
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    # What a test does

    def add(self, scan: Json, *, tell: bool = True) -> Json:
        """Put a scan in place of the one with its id, or at the end, and tell the pages."""
        self.scans = sorted(
            [one for one in self.scans if one["scan_id"] != scan["scan_id"]] + [scan], key=lambda one: one["seq"]
        )
        if tell:
            self.tell("scan", summary(scan))
        return scan

    def tell(self, event: str, data: Any) -> None:
        """Send an event to every page."""
        self._number += 1
        message = f"id: {self._number}\nevent: {event}\ndata: {json.dumps(data)}\n\n".encode()
        self._send(message)

    def drop_lines(self) -> None:
        """End every open line, as a restart does."""
        self._send(None)

    def _send(self, message: bytes | None) -> None:
        def send() -> None:
            for client in self._clients:
                client.put_nowait(message)

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(send)

    def judge(self, scan_id: str, diagnosis: str | None, by: str = "Dr Berg", source: str = "clinician") -> Json:
        """A verdict by somebody else."""
        return self._keep(self._find(scan_id), {"diagnosis": diagnosis, "source": source}, by)

    # The server

    def _app(self) -> Starlette:
        api = "/api/v1"
        guarded = self._guarded
        return Starlette(
            routes=[
                Route("/", self._static),
                Route("/page/{path:path}", self._static),
                Route(f"{api}/session", self._session, methods=["GET", "POST", "DELETE"]),
                Route(f"{api}/status", guarded(lambda _: JSONResponse(self.status))),
                Route(
                    f"{api}/events",
                    guarded(lambda _: StreamingResponse(self._events(), media_type="text/event-stream")),
                ),
                Route(f"{api}/scans", guarded(self._list)),
                Route(f"{api}/scans/{{scan_id}}", guarded(self._detail)),
                Route(f"{api}/scans/{{scan_id}}/view.jpg", guarded(self._view)),
                Route(f"{api}/scans/{{scan_id}}/image", guarded(self._view)),
                Route(f"{api}/scans/{{scan_id}}/verdicts", guarded(self._verdict), methods=["POST"]),
            ]
        )

    def _guarded(self, handle: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guard(request: Request) -> Response:
            self.asked.append(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
            if request.cookies.get(COOKIE) not in self.signed_in:
                return problem(401, "not-signed-in")
            answer = handle(request)
            response: Response = await answer if asyncio.iscoroutine(answer) else answer
            response.headers["Cache-Control"] = "no-store"
            return response

        return guard

    async def _static(self, request: Request) -> Response:
        path = PAGE / request.path_params.get("path", "index.html")
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        if not path.is_file():
            return problem(404, "not-found")
        return Response(path.read_bytes(), headers=headers, media_type=TYPES[path.suffix])

    async def _session(self, request: Request) -> Response:
        if request.method == "POST":
            if (await request.json()).get("token") != TOKEN:
                return problem(401, "not-signed-in")
            answer = Response(status_code=204)
            self.signed_in.add("yes")
            answer.set_cookie(COOKIE, "yes", httponly=True, samesite="strict")
            return answer
        if request.cookies.get(COOKIE) not in self.signed_in:
            return problem(401, "not-signed-in")
        if request.method == "DELETE":
            self.signed_in.clear()
            return Response(status_code=204)
        return JSONResponse({"name": "Dr Sato", "role": self.role, "expires_at": moment(-3600)})

    async def _events(self) -> AsyncIterator[bytes]:
        client: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._clients.add(client)
        try:
            yield f"event: status\ndata: {json.dumps(self.status)}\n\n".encode()
            while True:
                try:
                    message = await asyncio.wait_for(client.get(), 5)
                except asyncio.TimeoutError:
                    message = f"event: status\ndata: {json.dumps(self.status)}\n\n".encode()
                if message is None:
                    return
                yield message
        finally:
            self._clients.discard(client)

    def _list(self, request: Request) -> Response:
        limit = int(request.query_params.get("limit", 50))
        before = int(request.query_params.get("before", 2**62))
        since = request.query_params.get("since", "")
        found = [scan for scan in reversed(self.scans) if scan["seq"] < before and scan["received_at"] >= since]
        more = found[limit - 1]["seq"] if len(found) > limit else None
        return JSONResponse({"scans": [summary(scan) for scan in found[:limit]], "next_before": more})

    def _find(self, scan_id: str) -> Json:
        return next(scan for scan in self.scans if scan["scan_id"] == scan_id)

    def _detail(self, request: Request) -> Response:
        try:
            return JSONResponse(self._find(request.path_params["scan_id"]))
        except StopIteration:
            return problem(404, "no-such-scan")

    async def _view(self, request: Request) -> Response:
        scan = self._find(request.path_params["scan_id"])
        if scan["answer"] is None:
            return problem(415, "unsupported-picture")
        width, height = scan["answer"]["quality"]["width"], scan["answer"]["quality"]["height"]
        shrink = min(1.0, int(request.query_params.get("side", 10_000)) / max(width, height))
        size = round(width * shrink), round(height * shrink)
        drawn = await asyncio.to_thread(picture, scan["seq"] % 8, *size)
        return Response(drawn, media_type="image/jpeg")

    async def _verdict(self, request: Request) -> Response:
        key, body = request.headers.get("Idempotency-Key", ""), await request.json()
        assert request.headers["X-DermaScan-Page"] == "1"
        await asyncio.to_thread(self.taking.wait, 10)
        self.given.append((key, body))
        refusal = self.refuse_verdict(body)
        if refusal is not None:
            return refusal
        if key in self._kept:
            return JSONResponse(self._kept[key], 201)
        scan = self._find(request.path_params["scan_id"])
        current = scan["verdicts"][-1] if scan["verdicts"] else None
        if body.get("expected") != (current and current["verdict_id"]):
            return problem(409, "other-verdict", current=current)
        verdict = self._keep(scan, body, "Dr Sato")
        self._kept[key] = verdict
        self.tell("verdict", {"scan_id": scan["scan_id"], "verdict": verdict})
        return JSONResponse(verdict, 201)

    def _keep(self, scan: Json, body: Json, by: str) -> Json:
        suggested = scan["answer"] and scan["answer"]["diagnosis"]["primary"]
        verdict = {
            "verdict_id": f"verdict-{len(scan['verdicts'])}-{scan['seq']}",
            "scan_id": scan["scan_id"],
            "diagnosis": body["diagnosis"],
            "source": body["source"],
            "by": by,
            "note": body.get("note"),
            "given_at": moment(),
            "supersedes": scan["verdicts"][-1]["verdict_id"] if scan["verdicts"] else None,
            "agrees": None if suggested is None or body["diagnosis"] is None else suggested == body["diagnosis"],
        }
        scan["verdicts"].append(verdict)
        scan["verdict"] = verdict if verdict["diagnosis"] else None
        return verdict


def problem(status_code: int, name: str, **more: Any) -> Response:
    """A problem document."""
    content = {"type": f"urn:dermascan:problem:{name}", "title": name, "status": status_code, "detail": name, **more}
    return JSONResponse(content, status_code, media_type="application/problem+json")
