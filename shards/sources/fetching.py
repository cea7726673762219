"""The bytes of objects, fetched ahead of the decoders: many requests at once, and bounded memory.

    stored_items ─add─▶ waiting ─▶ [64 requests] ─▶ ready ─take─▶ a decoder's thread

Images are asked for in their order, and begin to be fetched in it. What was announced and is not
taken yet is at most ANNOUNCED_BYTES, or one image; of the others, nothing is in memory. Whoever
adds never waits, so a batch that is still being gathered can stop nobody. What nobody waits for any
more, as that of a run that was stopped, is forgotten. Where all that was announced is held by
somebody who does not take it, an image that is waited for is fetched all the same.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache

from shards.bucket import bucket_of
from shards.errors import ErrorKind, ImageError
from shards.names import SEPARATOR, shown
from shards.object_version import version_ns
from shards.sources.objects import REQUESTS, place_of, requests
from shards.store_request import store_errors
from shards.stored import Stored

__all__ = ["ANNOUNCED_BYTES", "Fetch", "Fetches", "Wanted", "fetch", "fetches"]

ANNOUNCED_BYTES = 128 << 20
"""Of all images that are on their way or wait for a decoder."""

_CHANGED = "it has changed since it was listed: run again"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An image that lies in a bucket.

    Attributes:
        key: Of the image.
        size: Bytes, when it was planned.
        mtime_ns: Of the object, when it was planned.
        offset: Where it begins in the object; None where it is the whole object.
    """

    key: bytes
    size: int
    mtime_ns: int
    offset: int | None = None


class Fetch:
    """An image on its way; let go of it, and it is forgotten."""

    __slots__ = ("__weakref__", "_fetches", "_outcome", "_ready", "announced", "begun", "wanted")

    def __init__(self, wanted: Wanted, fetches: Fetches) -> None:
        self.wanted = wanted
        self.announced = 0
        self.begun = False
        self._fetches = fetches
        self._ready = threading.Event()
        self._outcome: Stored | ImageError | None = None

    def taken(self) -> Stored | ImageError:
        """Wait for the bytes and hand them over, once: they are the caller's then."""
        self._fetches.wait_for(self)
        self._ready.wait()
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            raise ValueError(f"{self} was taken before")
        self._give_back()
        self._fetches.go_on()
        return outcome

    def arrive(self, outcome: Stored | ImageError) -> None:
        """Whoever waits may go on."""
        self._outcome = outcome
        self._ready.set()

    def __str__(self) -> str:
        """For messages."""
        return shown(self.wanted.key)

    def _give_back(self) -> None:
        announced, self.announced = self.announced, 0
        self._fetches.given_back.append(announced)

    def __del__(self) -> None:
        # At any moment, in any thread: no lock may be taken here.
        self._give_back()


class Fetches:
    """All fetches of this process.

    Attributes:
        given_back: Sizes that are announced no more, and still to be subtracted.
    """

    def __init__(
        self,
        read: Callable[[Wanted], Stored | ImageError],
        executor: Executor,
        *,
        requests: int = REQUESTS,
        announced_bytes: int = ANNOUNCED_BYTES,
    ) -> None:
        """Fetch nothing yet.

        Args:
            read: Gets one image; called in the executor's threads, raises nothing.
            executor: The caller's.
            requests: Most calls at once.
            announced_bytes: Most bytes of images that are not taken yet, beyond one image.
        """
        self.given_back: deque[int] = deque()
        self._read = read
        self._executor = executor
        self._requests = requests
        self._most = announced_bytes
        self._waiting: deque[weakref.ref[Fetch]] = deque()
        self._awaited: deque[weakref.ref[Fetch]] = deque()
        self._running = 0
        self._announced = 0
        self._lock = threading.Lock()

    def add(self, wanted: Wanted) -> Fetch:
        """Have an image fetched, behind those that were added before; returns at once."""
        fetch = Fetch(wanted, self)
        self._waiting.append(weakref.ref(fetch))
        self.go_on()
        return fetch

    def wait_for(self, fetch: Fetch) -> None:
        """Somebody waits for an image from here on."""
        with self._lock:
            if not fetch.begun:
                self._awaited.append(weakref.ref(fetch))
        self.go_on()

    def go_on(self) -> None:
        """Begin what there is room for, or else what is waited for."""
        with self._lock:
            while self.given_back:
                self._announced -= self.given_back.popleft()
            while self._running < self._requests and (fetch := _first(self._waiting)):
                size = max(fetch.wanted.size, 1)
                if self._announced and self._announced + size > self._most:
                    break
                self._begin(fetch)
            # Nothing under way would end and come by here again: what is announced may be held by
            # a batch that failed, or by one that waits for this image's thread.
            if (fetch := _first(self._awaited)) and not self._running:
                self._begin(fetch)

    def _begin(self, fetch: Fetch) -> None:
        fetch.begun = True
        fetch.announced = max(fetch.wanted.size, 1)
        self._announced += fetch.announced
        self._running += 1
        self._executor.submit(self._run, fetch)

    def _run(self, fetch: Fetch) -> None:
        fetch.arrive(self._read(fetch.wanted))
        del fetch
        with self._lock:
            self._running -= 1
        self.go_on()


def _first(waiting: deque[weakref.ref[Fetch]]) -> Fetch | None:
    """The first that is not begun; those before it, and the forgotten, are dropped."""
    while waiting:
        fetch = waiting[0]()
        if fetch is not None and not fetch.begun:
            return fetch
        waiting.popleft()
    return None


@cache
def _fetches(_process: int) -> Fetches:
    return Fetches(fetch, requests())


def fetches() -> Fetches:
    """Those of this process."""
    return _fetches(os.getpid())


def fetch(wanted: Wanted) -> Stored | ImageError:
    """Get an image, the version that was planned: what is classified is what was listed.

    Another version is not even downloaded. Its row says so, and the next run, whose listing shows
    it, replaces the row.
    """
    try:
        return _fetched(wanted)
    except FileNotFoundError as error:
        return ImageError(ErrorKind.NOT_FOUND, f"there is no such object ({error.strerror})")
    except PermissionError as error:
        return ImageError(ErrorKind.PERMISSION_DENIED, str(error.strerror))
    except MemoryError:
        return ImageError(ErrorKind.OUT_OF_MEMORY, f"no memory for {wanted.size} bytes")
    except OSError as error:
        return ImageError(ErrorKind.READ_ERROR, error.strerror or str(error))
    except Exception as error:  # a thread's: whoever waits for the image would wait for ever
        return ImageError(ErrorKind.READ_ERROR, f"{type(error).__name__}: {error}")


def _fetched(wanted: Wanted) -> Stored | ImageError:
    import obstore

    container = wanted.key.partition(SEPARATOR)[0]
    place = place_of(container)
    store = bucket_of(place.uri).store
    begin = wanted.offset
    with store_errors(shown(container)):
        if begin is None:
            found = obstore.get(store, place.key)
        else:
            part = {"range": (begin, begin + wanted.size)}
            found = obstore.get(store, place.key, options=part)  # type: ignore[arg-type]
        meta = found.meta
        if version_ns(meta["last_modified"], meta["e_tag"]) != wanted.mtime_ns or (
            begin is None and meta["size"] != wanted.size
        ):
            what = "the object" if begin is None else "the archive"
            return ImageError(ErrorKind.READ_ERROR, f"{what}: {_CHANGED}")
        content = bytes(found.bytes())
    if len(content) != wanted.size:
        reason = f"{len(content)} of {wanted.size} bytes came"
        return ImageError(ErrorKind.READ_ERROR, reason)
    return Stored(wanted.key, content=content)
