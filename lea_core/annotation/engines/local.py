"""Worker processes of this machine, each connected to the main process by a pipe.

In: a `Job`. Out: shard files; a time estimate and a progress bar on stderr. A killed worker is started again and its
shard is computed again. A worker whose main process is gone ends after its present shard.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import Counter, deque
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from lea_core.annotation.shards import Shard
from lea_core.annotation.worker import Job, Worker
from lea_core.common.errors import DISK_FULL, LeaError, in_full
from lea_core.common.progress import announce, bar

ATTEMPTS = 3  # at a shard, before the run stops


def run(job: Job, shards: list[Shard], workers: int) -> None:
    """Compute the shards in order by `workers` workers. Raises `LeaError` where one shard kills its worker 3 times."""
    total = sum(map(job.tokens, shards))
    with start(job, workers) as pool:
        announce(job.task.name, total, rate(pool, shards), job.bytes(shards))
        with bar(total, job.task.name, "token") as progress:
            pool.do(shards, lambda shard: progress.update(job.tokens(shard)))


def start(job: Job, workers: int, make: type[Worker] = Worker) -> SingleProcess | Pool:
    """A pool of `workers` workers; a single worker runs in this process."""
    return SingleProcess(job, make) if workers == 1 else Pool(job, workers, make)


def rate(pool: SingleProcess | Pool, shards: list[Shard]) -> float:
    """Tokens per second of all workers together, measured on one shard for each."""
    tried = [shards[number * len(shards) // pool.size] for number in range(pool.size)]
    return float(sum(tokens / seconds for tokens, seconds in pool.ask("warm_up", tried)))


class SingleProcess:
    """A single worker in this process."""

    size = 1

    def __init__(self, job: Job, make: type[Worker]) -> None:
        self._worker = make(job)

    def __enter__(self) -> SingleProcess:
        """Nothing to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to stop."""

    def ask(self, method: str, shards: list[Shard]) -> list[Any]:
        """The results of a method of the worker, one for each shard."""
        return [getattr(self._worker, method)(shard) for shard in shards]

    def do(self, shards: list[Shard], done: Callable[[Shard], object]) -> None:
        """Compute all shards; `done` is called after each."""
        for shard in shards:
            self._worker.do(shard)
            done(shard)


class Pool:
    """Workers that have loaded the LE."""

    def __init__(self, job: Job, workers: int, make: type[Worker]) -> None:
        self._job, self.size, self._make = job, workers, make
        self._processes: dict[Connection, multiprocessing.process.BaseProcess] = {}

    def __enter__(self) -> Pool:
        """Start the workers."""
        for rank in range(self.size):
            self._start(rank)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers, also in the middle of a shard."""
        for connection, process in self._processes.items():
            process.terminate()
            process.join()
            connection.close()

    def _start(self, rank: int) -> Connection:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, self._job, rank, self._make), daemon=True
        )
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def ask(self, method: str, shards: list[Shard]) -> list[Any]:
        """The results of a method of the workers, one for each shard; the workers run at the same time."""
        answers: list[Any] = []
        try:
            for start in range(0, len(shards), self.size):
                asked = list(zip(self._processes, shards[start : start + self.size], strict=False))
                for connection, shard in asked:
                    connection.send((method, shard))
                answers += [_answer(connection) for connection, _ in asked]
        except EOFError:
            raise self._killed("while loading the LE") from None
        return answers

    def _killed(self, when: str) -> LeaError:
        return LeaError(
            f"{self._job.task.name}: a worker was killed {when}, likely for lack of memory: lower annotate.workers or "
            "annotate.shard_events; finished shards are kept"
        )

    def do(self, shards: list[Shard], done: Callable[[Shard], object]) -> None:
        """Compute all shards; `done` is called after each."""
        waiting, attempts = deque(shards), Counter[int]()
        busy: dict[Connection, Shard] = {}
        idle = list(self._processes)
        while waiting or busy:
            while idle and waiting:
                connection = idle.pop()
                busy[connection] = waiting.popleft()
                connection.send(("do", busy[connection]))
            for ready in cast(list[Connection], wait(list(busy))):
                shard = busy.pop(ready)
                try:
                    _answer(ready)
                    idle.append(ready)
                    done(shard)
                except EOFError:
                    attempts[shard.number] += 1
                    if attempts[shard.number] == ATTEMPTS:
                        raise self._killed(f"{ATTEMPTS} times at shard {shard.number}") from None
                    rank = list(self._processes).index(ready)
                    self._processes.pop(ready).join()
                    idle.append(self._start(rank))
                    waiting.appendleft(shard)


def serve(connection: Connection, job: Job, rank: int, make: type[Worker]) -> None:
    """The main loop of a worker: load the LE, then answer requests until the main process closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    os.environ.setdefault("LOCAL_RANK", str(rank))
    worker = None
    while True:
        try:
            method, shard = connection.recv()
        except (EOFError, OSError):  # the main process is gone
            return
        try:
            worker = worker or make(job)
            answer = ["ok", getattr(worker, method)(shard)]
        except Exception as error:  # every error is sent to the main process, which raises it
            answer = as_answer(error)
        try:
            connection.send(answer)
        except OSError:
            return


def _answer(connection: Connection) -> Any:
    """The result that a worker sends, or its error, raised here. Raises `EOFError` where the worker is gone."""
    try:
        kind, *values = connection.recv()
    except ConnectionResetError:
        raise EOFError from None
    if kind != "ok":
        raise as_error(kind, *values)
    return values[0]


def as_answer(error: Exception) -> list[Any]:
    """An error as JSON values; `as_error` makes an equivalent error of them in another process."""
    if isinstance(error, LeaError):
        return ["mistake", in_full(error), str(error)]
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return ["full", in_full(error), error.errno, error.strerror, error.filename and str(error.filename)]
    return ["bug", "", f"in a worker:\n{''.join(traceback.format_exception(error))}"]


def as_error(kind: str, history: str, *values: Any) -> Exception:
    """The error of an answer. Its traceback is added as a note, because tracebacks cannot be sent."""
    error = {"mistake": LeaError, "full": OSError, "bug": RuntimeError}[kind](*values)
    if history:
        error.add_note(f"In a worker:\n{history}")
    return error
