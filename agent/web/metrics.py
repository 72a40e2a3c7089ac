"""``GET /metrics`` for Prometheus: nothing in it is of a patient, and no label comes from a request (F30)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from agent import __version__
from agent.web import gpu
from agent.web.context import Context, Here
from agent.web.gate import Right, insist
from agent.web.models import Status
from agent.web.problems import SIGNED_IN, described
from agent.web.status import status_now
from engines.supervisor import Worker

router = APIRouter(tags=["health"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT: dict[str, Any] = {
    "description": "Prometheus' text format",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
}


@router.get("/metrics", responses={200: _TEXT, **described(*SIGNED_IN)}, response_class=Response)
async def metrics(request: Request, here: Here) -> Response:
    """Figures since the start. On a loopback address for everyone, elsewhere for technicians and integrations."""
    api = here.agent.config.api
    if api is None or not api.loopback:
        insist(request, here, Right.METRICS)
    return Response(await here.run(_latest, here), headers={"Content-Type": MEDIA_TYPE})


def _latest(here: Context) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Agent(here))
    return generate_latest(registry)


class _Agent(Collector):
    def __init__(self, here: Context) -> None:
        self._here = here

    def collect(self) -> Iterator[Metric]:
        status = status_now(self._here.agent)
        yield InfoMetricFamily(
            "dermascan",
            "Software and model",
            {"software_version": __version__, "model": status.model.label, "model_sha256": status.model.sha256},
        )
        yield from self._times()
        yield from self._ended()
        yield from _queues(status)
        yield from self._engines()
        yield from _device(status)
        yield _gauge("dermascan_event_streams", "Open pages", {(): self._here.broadcast.clients})
        store = self._here.agent.store
        yield _gauge("dermascan_wal_bytes", "Write-ahead log of the database", {(): store.wal_bytes})
        yield _counter(
            "dermascan_blocked_checkpoints", "Checkpoints that a reader held up", {(): store.blocked_checkpoints}
        )
        yield _counter("dermascan_busy_retries", "Waits for a foreign lock", {(): store.busy_retries})
        yield from _gpus()

    def _times(self) -> Iterator[Metric]:
        stages = Metric("dermascan_stage_seconds", "Time of each stage of an answer; total: all of it", "summary")
        for (stage, backend), count, total, quantiles in self._here.figures.stages():
            _add_summary(stages, {"stage": stage, "backend": backend}, count, total, quantiles)
        yield stages
        requests = Metric("dermascan_http_request_seconds", "Time of each request to its last byte", "summary")
        for route, count, total, quantiles in self._here.figures.requests():
            _add_summary(requests, {"route": route}, count, total, quantiles)
        yield requests

    def _ended(self) -> Iterator[Metric]:
        yield _counter(
            "dermascan_captures",
            "Captures that came to their end since the start, with the reason where they were refused",
            self._here.figures.scans(),
            ("state", "backend", "reason"),
        )
        answers = {(route, str(code)): count for (route, code), count in self._here.figures.answers().items()}
        yield _counter("dermascan_http_responses", "Requests answered", answers, ("route", "status"))

    def _engines(self) -> Iterator[Metric]:
        rungs = self._here.agent.setting().ladder.rungs
        ready = {(one.name,): int(one.runner.ready) for one in rungs}
        workers = [(rung.name, rung.runner) for rung in rungs if isinstance(rung.runner, Worker)]
        faults = {(name,): one.faults for name, one in workers}
        restarts = {(name,): one.restarts for name, one in workers}
        yield _gauge("dermascan_rung_ready", "Takes work", ready, ("rung",))
        yield _counter("dermascan_rung_faults", "Faults of its engine", faults, ("rung",))
        yield _counter("dermascan_rung_restarts", "Starts of its engine after the first", restarts, ("rung",))


def _queues(status: Status) -> Iterator[Metric]:
    load = {("in_hand",): status.captures.in_hand, ("waiting",): status.captures.waiting}
    yield _gauge("dermascan_captures_under_way", "Captures not at their end", load, ("where",))
    scans = {(name,): count for name, count in status.counts.model_dump().items()}
    yield _gauge("dermascan_scans", "Scans kept, by state", scans, ("state",))
    outbox = {(name,): count for name, count in status.outbox.model_dump(exclude={"oldest_waiting_at"}).items()}
    yield _gauge("dermascan_outbox", "Events for the cloud, by state", outbox, ("state",))
    oldest = status.outbox.oldest_waiting_at
    waits = 0.0
    if oldest is not None:
        since = datetime.fromisoformat(oldest.replace("Z", "+00:00"))
        waits = max(0.0, (datetime.now(timezone.utc) - since).total_seconds())
    yield _gauge("dermascan_outbox_oldest_seconds", "How long the oldest event has waited", {(): waits})


def _device(status: Status) -> Iterator[Metric]:
    yield _gauge("dermascan_ready", "A rung takes work", {(): int(status.ready)})
    yield _gauge("dermascan_clock_trusted", "The clock can be right", {(): int(status.clock_trusted)})
    yield _gauge("dermascan_disk_free_bytes", "Free on the disk of the state folder", {(): status.disk.free_mb << 20})
    yield _gauge("dermascan_quota_bytes", "What answers may take", {(): status.disk.quota_mb << 20})
    yield _gauge("dermascan_used_bytes", "What they take", {(): status.disk.used_mb << 20})
    yield _gauge("dermascan_full", "Nothing new is taken in", {(): int(status.disk.full)})
    scopes = status.dermoscopes
    yield _gauge(
        "dermascan_folder_ok", "The folder is there", {(one.id,): int(one.folder_ok) for one in scopes}, ("dermoscope",)
    )
    ages = {(one.id,): one.calibration.age_days for one in scopes if one.calibration.age_days is not None}
    yield _gauge("dermascan_calibration_age_days", "Age of the colour profile in use", ages, ("dermoscope",))
    states = {(one.id, one.calibration.state.value): 1 for one in scopes}
    yield _gauge("dermascan_calibration_state", "What the colour profile is worth", states, ("dermoscope", "state"))


def _gpus() -> Iterator[Metric]:
    found = {(str(one.index), one.name): one for one in gpu.look()}
    if not found:
        return
    names = ("gpu", "name")
    use = {key: one.use for key, one in found.items()}
    used = {key: one.used_bytes for key, one in found.items()}
    total = {key: one.total_bytes for key, one in found.items()}
    yield _gauge("dermascan_gpu_use_ratio", "Share of the last moments in which it worked", use, names)
    yield _gauge("dermascan_gpu_memory_used_bytes", "Memory in use", used, names)
    yield _gauge("dermascan_gpu_memory_bytes", "Memory that there is", total, names)


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, values: Mapping[Any, float], labels: tuple[str, ...] = ()) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _add_summary(
    metric: Metric, labels: dict[str, str], count: int, total: float, quantiles: Mapping[float, float]
) -> None:
    for share, value in quantiles.items():
        metric.add_sample(metric.name, {**labels, "quantile": str(share)}, value)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, total)
