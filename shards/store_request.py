"""One request of an object store: what it raises, in a person's words, and an end by a signal."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["asked", "reason_of", "store_errors"]

Answer = TypeVar("Answer")

_STATUS = re.compile(r"status code: ([0-9]{3})( [A-Za-z -]+)?")
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")
_ADDRESS = re.compile(r"Error performing [A-Z]+ (https?://[^/\s?]+)")
_CAUSE = re.compile(r'(?:message|error): "([^"\n]+)"')
_NOBODY = re.compile(r"//169\.254\.|/latest/api/token|/computeMetadata/|token request")
"""Where a client looks last for who it is."""

_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w+)")
_UNSENT = "error sending request"
_LATE = ("TimedOut", "kind: Timeout")

_MOST_CHARACTERS = 300


def asked(uri: str, call: Callable[[], Answer]) -> Answer:
    """Make a request, and turn what obstore raises into OSErrors (see `store_errors`).

    Python looks at signals between two of its own instructions, and obstore may try again for
    minutes. So the main thread has another one wait, and a signal ends the command at once; what
    was under way then may still be done, as by a process that is killed.

    Args:
        uri: Of the object, for the message.
        call: Makes it.
    """
    with store_errors(uri):
        if threading.current_thread() is not threading.main_thread():
            return call()
        answer: Future[Answer] = Future()
        threading.Thread(target=_answer, args=(call, answer), daemon=True).start()
        return answer.result()


def _answer(call: Callable[[], Answer], answer: Future[Answer]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what obstore raises into OSErrors that name the object.

    FileExistsError stands for a name that is taken, BlockingIOError for a condition that does not
    hold: another version is there than was expected.

    Args:
        uri: Of the object, for the message.
    """
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotFoundError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        raise FileNotFoundError(errno.ENOENT, reason_of(error), uri) from error
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, reason_of(error), uri) from error
    except PreconditionError as error:
        raise BlockingIOError(errno.EAGAIN, "another version of the object", uri) from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise PermissionError(errno.EACCES, reason_of(error), uri) from error
    except BaseError as error:
        raise OSError(errno.EREMOTEIO, reason_of(error), uri) from error


def reason_of(error: BaseException) -> str:
    """Return what a person can use of obstore's message, which has XML and a dump in it.

    As '403 InvalidAccessKeyId: The key does not exist in our records', or 'no answer from
    http://127.0.0.1:9000: Connection refused'.
    """
    text, _, dump = str(error).partition("\n\nDebug source")
    if _NOBODY.search(text):
        reason = "no credentials were found"
    elif status := _STATUS.search(text):
        code, message = _CODE.search(text), _MESSAGE.search(text)
        name = code[1] if code else (status[2] or "").strip()
        said = f": {message[1]}" if message and message[1] != name else ""
        reason = f"{status[1]} {name}{said}"
    elif _UNSENT in text:
        address = _ADDRESS.search(text)
        reason = f"no answer from {address[1] if address else 'the store'}: {_cause(dump)}"
    else:
        reason = text.partition("\n")[0]
    return " ".join(reason.split())[:_MOST_CHARACTERS].rstrip(".")


def _cause(dump: str) -> str:
    """The innermost reason of a request that got no answer."""
    if any(word in dump for word in _LATE):
        return "it took too long"
    if certificate := _CERTIFICATE.search(dump):
        return f"its certificate is not trusted, {certificate[1]}"
    causes = _CAUSE.findall(dump)
    if causes:
        return str(causes[-1])
    return "TLS is not understood there" if "InvalidMessage" in dump else "the connection was lost"
