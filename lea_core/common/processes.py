"""Independent pieces of work in parallel: one process with one thread for each.

In: a function that can be pickled and its arguments. Out: its results, in their order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TypeVar

from lea_core.common.cores import usable_cores
from lea_core.common.errors import LeaError, unhide

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Argument], Result], arguments: Sequence[Argument]) -> list[Result]:
    """`work` of every argument, in as many processes at a time as there are cores. An error in one ends all.

    Raises `LeaError` where a process is killed from outside, as the system does when memory runs out.
    """
    workers = min(len(arguments), usable_cores())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(os.getpid(),)
    )
    try:
        results = list(pool.map(partial(_do, work), arguments))
    except BaseException as error:  # Ctrl-C too: the other processes must stop
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        if isinstance(error, BrokenProcessPool):
            raise LeaError(
                "a training process was killed, likely for lack of memory: free some and run again"
            ) from None
        raise
    pool.shutdown()
    return results


def _do(work: Callable[[Argument], Result], argument: Argument) -> Result:
    try:
        return work(argument)
    except Exception as error:
        unhide(error)  # what comes out of the pool has the traceback as text
        raise


def _prepare(parent: int) -> None:
    """Use one thread, leave Ctrl-C to the parent, and end when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _end_with(parent: int) -> None:
    """End this process when its parent was killed and could not end it itself."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
