# ruff: noqa: E402
"""The HTTP example: what it answers, what it refuses, what it counts, and fifty clients of a real server at once."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

for package in ("fastapi", "httpx2", "onnxruntime", "onnxscript", "prometheus_client", "uvicorn"):
    pytest.importorskip(package, reason="the extra `serve` is not installed")

import httpx2
from fastapi.testclient import TestClient

from examples.serve import app as serve
from examples.serve.load_test import HOST, bodies, load, server
from lea_core.serving import Policy
from lea_core.serving.onnx_export import export_folder
from lea_core.serving.onnx_policy import OnnxPolicy
from tests.support.tiny_policy import IDS, write_policy

ABOUT = {"ready": True}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A policy's folder, and the same as ONNX."""
    folder = tmp_path_factory.mktemp("serve")
    write_policy(folder / "policy")
    export_folder(folder / "policy", folder / "onnx", k=3, int8=False)
    return folder / "policy", folder / "onnx"


@pytest.fixture(scope="module")
def policy(folders: tuple[Path, Path]) -> OnnxPolicy:
    return OnnxPolicy.load(folders[1])


@pytest.fixture(scope="module")
def client(policy: OnnxPolicy) -> Iterator[TestClient]:
    with TestClient(serve.application(policy, ABOUT)) as client:
        yield client


# ---- answers


def test_one_history_and_several(client: TestClient, policy: OnnxPolicy) -> None:
    several = client.post("/recommend", json={"histories": [["a"], [10.0, "x"], []], "k": 2, "exclude_seen": False})
    assert several.status_code == 200
    assert several.json() == {"recommendations": policy.recommend([["a"], ["10", "x"], []], 2, False).rows()}
    assert [row["unknown"] for row in several.json()["recommendations"]] == [0, 1, 0]
    assert several.json()["recommendations"][2]["fallback"]
    one = client.post("/recommend", json={"history": ["a"]})
    assert one.json() == policy.recommend([["a"]], 10).rows()[0]
    assert sorted(one.json()["items"]) == sorted({*IDS} - {"a"})  # five are left of ten that were asked for
    assert client.post("/recommend", json={"histories": []}).json() == {"recommendations": []}


def test_start_and_health(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    torch_folder, onnx_folder = folders
    monkeypatch.delenv("LEA_POLICY", raising=False)
    with pytest.raises(SystemExit, match=r"^error: LEA_POLICY is not set: name the folder that `lea export --onnx`"):
        serve.create_app()
    monkeypatch.setenv("LEA_POLICY", str(torch_folder))
    with pytest.raises(SystemExit, match=r"^error: .*policy: has no policy.onnx: make such a folder with `lea export"):
        serve.create_app()
    monkeypatch.setenv("LEA_POLICY", str(onnx_folder))
    told = TestClient(serve.create_app()).get("/health").json()
    assert told.pop("manifest") == serve.file_sha256(onnx_folder / "manifest.json")
    assert told == {"ready": True, "policy": "onnx", "items": 6, "exclude_seen": True}


def test_a_thread_for_each_core_that_it_may_use(policy: OnnxPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(serve, "usable_cores", lambda: 3)
    monkeypatch.setattr(serve, "ThreadPoolExecutor", asked.append)
    serve.application(policy, ABOUT)
    assert asked == [3]


def test_metrics_by_hand(policy: OnnxPolicy) -> None:
    client = TestClient(serve.application(policy, ABOUT))
    client.post(
        "/recommend", json={"histories": [["a", "x", "y"], [], ["z"]], "k": 5}
    )  # 3 unknown, 2 without a known one
    client.post("/recommend", json={"history": ["b"]})  # five items are left of ten
    client.post("/recommend", content=b"{")
    client.get("/health")
    client.get("/nothing/like/it")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = dict(
        line.rsplit(" ", 1) for line in answer.text.splitlines() if line.startswith("lea_") and "_created" not in line
    )
    seconds = [float(found.pop(name)) for name in list(found) if name.startswith("lea_recommend_seconds_b")]
    assert seconds == sorted(seconds)  # each bucket has what the one below it has
    assert seconds[-1] == 3
    assert 0 < float(found.pop("lea_recommend_seconds_sum")) < 60
    assert found == {
        'lea_requests_total{path="/recommend",status="200"}': "2.0",
        'lea_requests_total{path="/recommend",status="422"}': "1.0",
        'lea_requests_total{path="/health",status="200"}': "1.0",
        'lea_requests_total{path="other",status="404"}': "1.0",
        "lea_recommend_seconds_count": "3.0",
        "lea_histories_total": "4.0",
        "lea_unknown_items_total": "3.0",
        "lea_fallbacks_total": "2.0",
        "lea_short_total": "1.0",
    }


def test_health_does_not_wait_for_recommendations(policy: OnnxPolicy) -> None:
    """Four requests, more than there may be threads, are at work until /health has answered."""
    go = threading.Event()

    class Busy(OnnxPolicy):
        def recommend(self, *given: Any, **more: Any) -> Any:
            assert go.wait(5)
            return policy.recommend(*given, **more)

    async def ask() -> list[int]:
        app = serve.application(object.__new__(Busy), ABOUT)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://lea") as client:
            waiting = [asyncio.create_task(client.post("/recommend", json={"history": ["a"]})) for _ in range(4)]
            await asyncio.sleep(0.05)
            health = await asyncio.wait_for(client.get("/health"), 20)
            assert not any(task.done() for task in waiting)
            go.set()
            return [health.status_code, *(answer.status_code for answer in await asyncio.gather(*waiting))]

    assert asyncio.run(ask()) == [200] * 5


# ---- refusals


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "body: Invalid JSON: EOF while parsing an object"),
        (b"\xff\xfe", "body: Invalid JSON"),
        (b"[]", "body: Input should be an object"),
        (b"{}", "body: give either 'history' or 'histories'"),
        (b'{"history": [], "histories": []}', "body: give either 'history' or 'histories'"),
        (b'{"history": "50"}', "history: Input should be a valid array"),
        (b'{"history": [true]}', "history.0.str: Input should be a valid string; history.0.int"),
        (b'{"history": [1.5]}', "history 0: item 1.5 is neither text nor whole number"),
        (b'{"histories": [[], [NaN]]}', "histories.1.0.str: Input should be a valid string"),
        (b'{"history": ["\\ud800"]}', "body: Invalid JSON"),
        (b'{"history": [' + b"9" * 5000 + b"]}", "body: Invalid JSON: number out of range"),
        (b'{"history": ' + b"[" * 100_000, "body: Invalid JSON: recursion limit"),
        (b'{"history": [], "k": 0}', "k: Input should be greater than or equal to 1"),
        (b'{"history": [], "k": 1001}', "k: Input should be less than or equal to 1000"),
        (b'{"history": [], "k": 1e400}', "k: Input should be a valid integer"),
        (b'{"history": [], "seen": true}', "seen: Extra inputs are not permitted"),
        (b'{"history": [' + b"1," * 10_000 + b"1]}", "history: List should have at most 10000 items"),
        (b'{"histories": [' + b"[]," * 256 + b"[]]}", "histories: List should have at most 256 items"),
        (b"{" + b",".join(b'"x%d": 0' % place for place in range(200)) + b"}", "200 mistakes: see /docs"),
    ],
)
def test_what_is_wrong_with_a_body(client: TestClient, body: bytes, detail: str) -> None:
    answer = client.post("/recommend", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(detail)
    assert len(answer.content) < 1000  # it repeats nothing of a long body


def test_the_largest_body(client: TestClient) -> None:
    largest = b'{"history": ["a"]}'.ljust(serve.MOST_BYTES)
    assert client.post("/recommend", content=largest).status_code == 200
    for body in (largest + b" ", iter([largest, b" "])):  # the second comes without a length
        answer = client.post("/recommend", content=body)
        assert answer.status_code == 413
        assert answer.json()["detail"].startswith("the body is larger than 1048576 bytes")


@pytest.mark.parametrize(("leaves", "status"), [(True, 400), (False, 408)])
def test_a_body_that_never_ends(policy: OnnxPolicy, monkeypatch: pytest.MonkeyPatch, leaves: bool, status: int) -> None:
    monkeypatch.setattr(serve, "MOST_SECONDS", 0.05)
    parts = iter([{"type": "http.request", "body": b'{"hist', "more_body": True}])
    sent: list[Any] = []

    async def receive() -> Any:
        part = next(parts, {"type": "http.disconnect"} if leaves else None)
        return part or await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/recommend", "headers": [], "query_string": b""}
    asyncio.run(serve.application(policy, ABOUT)(scope, receive, send))
    assert sent[0]["status"] == status


IDS_OR_NOT = st.sampled_from([*IDS, "x", 10, 10.0, 2.0**53, -(2**70), True, 1.5, None, float("nan"), [], {}])
HISTORIES = st.lists(IDS_OR_NOT, max_size=4) | IDS_OR_NOT
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "history": HISTORIES,
        "histories": st.lists(HISTORIES, max_size=3),
        "k": st.sampled_from([1, 3, 1000, 1001, 0, -1, True, 2.0, "3", None, float("inf")]),
        "exclude_seen": st.sampled_from([True, False, 0, "yes", None]),
        "more": st.just(1),
    },
)


def _right(question: dict[str, Any]) -> bool:
    """What a body has to be, in plain Python."""

    def history(value: Any) -> bool:
        return type(value) is list and all(type(item) in (str, int) or item == 10.0 for item in value)

    one, several = question.get("history"), question.get("histories")
    k = question.get("k", 10)
    return (
        "more" not in question
        and (one is None) != (several is None)
        and (history(one) if several is None else all(map(history, several)))
        and type(k) is int
        and 1 <= k <= 1000
        and type(question.get("exclude_seen")) in (bool, type(None))
    )


@given(QUESTIONS)
@example({"histories": [[]] * 256})
def test_questions_right_and_wrong(client: TestClient, question: dict[str, Any]) -> None:
    answer = client.post("/recommend", content=json.dumps(question))
    assert answer.status_code == (200 if _right(question) else 422)
    assert isinstance(answer.json(), dict)


@given(st.binary(max_size=200) | st.binary(max_size=20).map(lambda some: b'{"history": ["' + some + b'"]}'))
def test_any_bytes(client: TestClient, body: bytes) -> None:
    """The client raises what the application does not handle."""
    answer = client.post("/recommend", content=body)
    assert answer.status_code in (200, 422)
    assert isinstance(answer.json(), dict)


# ---- a real server


def test_fifty_clients_at_once(folders: tuple[Path, Path]) -> None:
    """Right answers for all of them, though every third body is broken, and nothing else than that is counted."""
    draw = np.random.default_rng(0)
    histories = [[str(item) for item in draw.choice([*IDS, "x"], size)] for size in draw.integers(0, 6, 300)]
    wanted = Policy.load(folders[0]).recommend(histories, k=4)
    broken = [b"", b"{", b"\xff" * 500, b'{"history": [NaN]}', b"[" * 50_000, b"x" * (serve.MOST_BYTES + 1)]
    together = threading.Barrier(50)

    def one_client(port: int, number: int) -> list[int]:
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        together.wait()
        refused = []
        for turn, place in enumerate(range(number, 300, 50)):
            connection.request("POST", "/recommend", json.dumps({"history": histories[place], "k": 4}))
            answer = connection.getresponse()
            row = json.loads(answer.read())
            assert answer.status == 200
            assert row["items"] == wanted.items[place]
            np.testing.assert_allclose(row["scores"], wanted.scores[place, : len(row["items"])], atol=1e-4)
            assert (row["unknown"], row["fallback"]) == (wanted.unknown[place], wanted.fallback[place])
            if turn % 2:
                connection.request("POST", "/recommend", broken[(number + turn) % len(broken)])
                answer = connection.getresponse()
                assert json.loads(answer.read())["detail"]
                refused.append(answer.status)
        connection.close()
        return refused

    with server(folders[1]) as port:
        with ThreadPoolExecutor(50) as threads:
            refused = [*threads.map(lambda number: one_client(port, number), range(50))]
        line = asyncio.run(load(port, bodies(folders[1], 2), clients=50, seconds=0.3))
        connection = http.client.HTTPConnection(HOST, port, timeout=60)
        connection.request("GET", "/metrics")
        told = connection.getresponse().read().decode()
        connection.close()
    statuses = [status for own in refused for status in own]
    assert len(statuses) == 150
    for status in (413, 422):
        assert f'lea_requests_total{{path="/recommend",status="{status}"}} {statuses.count(status)}.0' in told
    assert 'status="5' not in told
    assert " 0 errors of " in line
