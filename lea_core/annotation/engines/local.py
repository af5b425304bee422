"""Worker processes of this machine, each with a pipe to this one.

In: a `Job`. Out: shard files, a forecast and a progress bar on stderr. A worker that is killed is started again, its
shard with it; a worker whose master is gone ends with the shard that it is at.
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

ATTEMPTS = 3  # at a shard, before its killer is believed to strike again


def run(job: Job, shards: list[Shard], workers: int) -> None:
    """Do the shards in order, `workers` at a time, after a forecast. Raises `LeaError` where one is killed thrice."""
    total = sum(map(job.tokens, shards))
    with start(job, workers) as pool:
        announce(job.kind.name, total, rate(pool, shards), job.bytes(shards))
        with bar(total, job.kind.name, "token") as progress:
            pool.do(shards, lambda shard: progress.update(job.tokens(shard)))


def start(job: Job, workers: int, make: type[Worker] = Worker) -> Alone | Pool:
    """As many workers; a single one is this process."""
    return Alone(job, make) if workers == 1 else Pool(job, workers, make)


def rate(pool: Alone | Pool, shards: list[Shard]) -> float:
    """Tokens per second of all workers together, as a trial on one shard of each has it."""
    tried = [shards[number * len(shards) // pool.size] for number in range(pool.size)]
    return float(sum(tokens / seconds for tokens, seconds in pool.ask("warm_up", tried)))


class Alone:
    """A single worker: this process."""

    size = 1

    def __init__(self, job: Job, make: type[Worker]) -> None:
        self._worker = make(job)

    def __enter__(self) -> Alone:
        """Nothing to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def ask(self, task: str, shards: list[Shard]) -> list[Any]:
        """What a method of the worker gives for each shard."""
        return [getattr(self._worker, task)(shard) for shard in shards]

    def do(self, shards: list[Shard], done: Callable[[Shard], object]) -> None:
        """Do all shards; `done` hears of each."""
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
        for place in range(self.size):
            self._start(place)
        return self

    def __exit__(self, *_: object) -> None:
        """End them, whatever they are at."""
        for connection, process in self._processes.items():
            process.terminate()
            process.join()
            connection.close()

    def _start(self, place: int) -> Connection:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(theirs, self._job, place, self._make), daemon=True
        )
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def ask(self, task: str, shards: list[Shard]) -> list[Any]:
        """What a method of the workers gives for each shard, one at each worker at the same time."""
        answers: list[Any] = []
        try:
            for start in range(0, len(shards), self.size):
                asked = list(zip(self._processes, shards[start : start + self.size], strict=False))
                for connection, shard in asked:
                    connection.send((task, shard))
                answers += [_answer(connection) for connection, _ in asked]
        except EOFError:
            raise self._killed("while loading the LE") from None
        return answers

    def _killed(self, when: str) -> LeaError:
        return LeaError(
            f"{self._job.kind.name}: a worker was killed {when}, likely for lack of memory: lower annotate.workers or "
            "annotate.shard_events; finished shards are kept"
        )

    def do(self, shards: list[Shard], done: Callable[[Shard], object]) -> None:
        """Do all shards; `done` hears of each."""
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
                    place = list(self._processes).index(ready)
                    self._processes.pop(ready).join()
                    idle.append(self._start(place))
                    waiting.appendleft(shard)


def serve(connection: Connection, job: Job, place: int, make: type[Worker]) -> None:
    """A worker's life: load, then answer until the master hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the master's to answer
    os.environ.setdefault("LOCAL_RANK", str(place))
    worker = None
    while True:
        try:
            task, shard = connection.recv()
        except (EOFError, OSError):
            return
        try:
            worker = worker or make(job)
            answer = ["ok", getattr(worker, task)(shard)]
        except Exception as error:
            answer = as_answer(error)
        try:
            connection.send(answer)
        except OSError:
            return


def _answer(connection: Connection) -> Any:
    """What a worker says, or its mistake raised here. Raises `EOFError` where it is gone."""
    try:
        kind, *values = connection.recv()
    except ConnectionResetError:
        raise EOFError from None
    if kind != "ok":
        raise as_error(kind, *values)
    return values[0]


def as_answer(error: Exception) -> list[Any]:
    """An error as JSON values, of which another process makes one that is the same to the user: see `as_error`."""
    if isinstance(error, LeaError):
        return ["mistake", in_full(error), str(error)]
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return ["full", in_full(error), error.errno, error.strerror, error.filename and str(error.filename)]
    return ["bug", "", f"in a worker:\n{''.join(traceback.format_exception(error))}"]


def as_error(kind: str, history: str, *values: Any) -> Exception:
    """The error of an answer, to be raised; what led to it is a note, for tracebacks stay in their process."""
    error = {"mistake": LeaError, "full": OSError, "bug": RuntimeError}[kind](*values)
    if history:
        error.add_note(f"In a worker:\n{history}")
    return error
