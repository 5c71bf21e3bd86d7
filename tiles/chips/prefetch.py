"""Work ahead: an iterator's next item is made on a thread while this one is used."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], name: str = "geounet-reader") -> Generator[T, None, None]:
    """The same items, made on a thread: the next one while the consumer works on this one, and no further ahead.

    Errors pass through. Close it to stop early: it waits for the item in the making. `name` is the thread's.
    """
    done = object()
    slot: queue.SimpleQueue[Any] = queue.SimpleQueue()
    wanted = threading.Semaphore(1)
    stop = threading.Event()

    def work() -> None:
        try:
            while True:
                wanted.acquire()
                if stop.is_set():
                    return
                item = next(items, done)
                slot.put((item, None))
                if item is done:
                    return
        except BaseException as error:  # handed over to the consumer, whatever it is
            slot.put((done, error))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        while True:
            item, error = slot.get()
            if error is not None:
                raise error
            if item is done:
                return
            wanted.release()
            yield item
    finally:
        stop.set()
        wanted.release()
        thread.join()
