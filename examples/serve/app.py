"""A policy over HTTP: POST /recommend, GET /health, GET /metrics.

In: the environment variable LEA_POLICY, a folder that `lea export --onnx` made. Out: a FastAPI application:

    LEA_POLICY=data/policy-onnx uvicorn --factory examples.serve.app:create_app

It differs from the usual FastAPI application to be safe against hostile bodies. pydantic reads the bytes itself: it
refuses NaN, lone surrogates and deep nesting, which the standard parser accepts, so that the error answer then fails.
The size of a body and the time that it takes to arrive are limited. An error does not repeat the input.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, to_json
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lea_core.common.cores import usable_cores
from lea_core.common.errors import LeaError
from lea_core.common.sources import file_sha256
from lea_core.serving.folder import MANIFEST
from lea_core.serving.onnx_policy import OnnxPolicy
from lea_core.serving.recommendations import Recommendations
from lea_core.serving.recommender import Recommender

VARIABLE = "LEA_POLICY"
MOST_BYTES = 2**20  # of a body
MOST_SECONDS = 10.0  # that a body may take to arrive
MOST_HISTORIES, MOST_ITEMS, MOST_ANSWERS = 256, 10_000, 1000
MOST_MISTAKES = 100  # that are looked at, to name a few of them
NAMED_MISTAKES = 4
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds

History = Annotated[list[str | int | float], Field(max_length=MOST_ITEMS, fail_fast=True)]


class Question(BaseModel):
    """The body of POST /recommend: one history or several, each of item ids, oldest first."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    history: History | None = None
    histories: Annotated[list[History], Field(max_length=MOST_HISTORIES, fail_fast=True)] | None = None
    k: int = Field(10, ge=1, le=MOST_ANSWERS)
    exclude_seen: bool | None = None  # as the policy was evaluated

    @model_validator(mode="after")
    def _one_of_two(self) -> Question:
        if (self.history is None) == (self.histories is None):
            raise PydanticCustomError("one_of_two", "give either 'history' or 'histories'")
        return self


class Metrics:
    """The metrics of /metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("lea_requests", "Requests answered", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "lea_recommend_seconds", "POST /recommend, from headers to answer", buckets=BUCKETS, registry=registry
        )
        self.histories = Counter("lea_histories", "Histories answered", registry=registry)
        self.unknown = Counter("lea_unknown_items", "Items that the vocabulary lacks, skipped", registry=registry)
        self.fallbacks = Counter("lea_fallbacks", "Histories answered with popular items", registry=registry)
        self.short = Counter("lea_short", "Histories answered with fewer items than asked for", registry=registry)

    def served(self, found: Recommendations) -> None:
        """Count what was recommended."""
        self.histories.inc(len(found))
        self.unknown.inc(int(found.unknown.sum()))
        self.fallbacks.inc(int(found.fallback.sum()))
        self.short.inc(int((found.missing > 0).sum()))


class Counted:
    """An ASGI application around another that counts its answers and times those of /recommend."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.metrics, self.paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500  # of an answer that never starts
        start = time.perf_counter()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"  # clients may ask for any number of paths
            self.metrics.requests.labels(path, status).inc()
            if path == "/recommend":
                self.metrics.seconds.observe(time.perf_counter() - start)


def create_app() -> FastAPI:
    """The application. Exits with one line where LEA_POLICY names no exported folder."""
    try:
        folder = Path(_folder())
        policy = OnnxPolicy.load(folder)
        about = {"ready": True, "policy": folder.resolve().name, "manifest": file_sha256(folder / MANIFEST)}
    except LeaError as error:
        raise SystemExit(f"error: {error}") from None
    about |= {"items": len(policy.item_ids), "exclude_seen": policy.exclude_seen}
    policy.recommend([policy.item_ids[:1]])  # the first run of a graph allocates
    return application(policy, about)


def _folder() -> str:
    folder = os.environ.get(VARIABLE, "")
    if not folder:
        raise LeaError(f"{VARIABLE} is not set: name the folder that `lea export --onnx` made")
    return folder


def application(policy: Recommender, about: Mapping[str, Any]) -> FastAPI:
    """The application around a policy. about: what GET /health tells."""
    app = FastAPI(title="LEA", description="The next items after a history.")
    metrics = Metrics()
    # The graph runs outside of Python's lock, so two threads use two cores, and the loop stays free for /health.
    threads = ThreadPoolExecutor(usable_cores())

    def answer(body: bytes) -> bytes:
        question = read_question(body)
        histories = question.histories if question.history is None else [question.history]
        found = policy.recommend(histories, question.k, question.exclude_seen)
        metrics.served(found)
        rows = found.rows()
        return to_json({"recommendations": rows} if question.history is None else rows[0])

    @app.post("/recommend", openapi_extra={"requestBody": _described()})
    async def recommend(request: Request) -> Response:
        """The best k items for every history, best first, without those of the history where exclude_seen."""
        body = await read_body(request)
        try:
            content = await asyncio.get_running_loop().run_in_executor(threads, answer, body)
        except LeaError as error:
            raise HTTPException(422, str(error)) from None
        return Response(content, media_type="application/json")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the policy is loaded, and which."""
        return dict(about)

    @app.get("/metrics")
    async def told() -> Response:
        """Counts and times since the start, in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.add_middleware(Counted, metrics=metrics, paths=frozenset({"/recommend", "/health", "/metrics"}))
    return app


async def read_body(request: Request) -> bytes:
    """The body of a request. Answers 413 if it is too large, 408 if too slow, 400 if the client disconnects."""
    too_large = HTTPException(413, f"the body is larger than {MOST_BYTES} bytes: ask about fewer histories at once")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MOST_BYTES:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise HTTPException(408, f"the body took longer than {MOST_SECONDS:g} s to arrive") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its body was whole") from None
    return bytes(body)


def read_question(body: bytes) -> Question:
    """The question in a body. Raises `LeaError`, which says what is wrong and does not repeat the body."""
    try:
        return Question.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > MOST_MISTAKES:
            raise LeaError(f"{error.error_count()} mistakes: see /docs for what a body looks like") from None
        found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in found[:NAMED_MISTAKES]]
    raise LeaError("; ".join(lines))


def _described() -> dict[str, Any]:
    """For /docs."""
    schema = Question.model_json_schema() | {"example": {"history": ["50", "181"], "k": 10}}
    return {"required": True, "content": {"application/json": {"schema": schema}}}
