"""A bucket of an object store, as s3://bucket or gs://bucket, by obstore.

Who we are there, and where it is, come from the places where its own tools look: for S3 the
variables AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION and so on, the profile where boto3 is
installed, a container's or machine's role; for Google GOOGLE_APPLICATION_CREDENTIALS, the
application default credentials, the machine's account. Never from parameters.

Everything raises OSError: FileNotFoundError and PermissionError where that is what it is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from shards.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["SCHEMES", "Bucket", "bucket_of", "store_errors"]

SCHEMES = ("gs", "s3")
"""Schemes of URIs that are object stores."""

TIMEOUT_S = 300
"""For one request: an upload of a gigabyte takes a minute on a good line."""

CONNECT_TIMEOUT_S = 10

RETRY_FOR_S = 120
"""Server errors, throttling and lost connections are tried again for so long, and backed off."""

_MESSAGE_CHARACTERS = 300


class Bucket:
    """One bucket, connected; for any number of threads, and not across a fork.

    Attributes:
        uri: As `s3://bucket`, without a slash at its end.
        store: Of obstore; keys are relative to the bucket.
    """

    def __init__(self, uri: str, store: ObjectStore) -> None:
        self.uri = uri
        self.store = store

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name; credentials stay."""
        return bucket_of, (self.uri,)


def bucket_of(uri: str) -> Bucket:
    """Connect to the bucket of a URI; nothing is asked of it yet.

    Args:
        uri: As `s3://bucket` or `s3://bucket/key`.

    Raises:
        StoreError: obstore is not installed, or the URI or the configuration is no good.
    """
    scheme, _, rest = uri.partition("://")
    return _connected(scheme.lower(), rest.partition("/")[0], os.getpid())


@cache
def _connected(scheme: str, name: str, _process: int) -> Bucket:
    """A connection has threads, so each process makes its own."""
    uri = f"{scheme}://{name}"
    if find_spec("obstore") is None:
        raise StoreError(
            f"{uri} needs the Python package obstore, which is not installed. "
            "Run: pip install 'nightshift[s3]'"
        )
    from obstore.exceptions import BaseError
    from obstore.store import GCSStore, S3Store

    shared: dict[str, Any] = {
        "client_options": {
            "timeout": timedelta(seconds=TIMEOUT_S),
            "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            "user_agent": "nightshift",
        },
        "retry_config": {"retry_timeout": timedelta(seconds=RETRY_FOR_S)},
    }
    try:
        if scheme == "gs":
            return Bucket(uri, GCSStore(name, **shared))
        # Such an endpoint is never a default: whoever configures one, wants it.
        shared["client_options"]["allow_http"] = True
        return Bucket(uri, S3Store(name, **shared, **_aws_identity()))
    except (BaseError, ValueError, OSError) as error:
        raise StoreError(f"cannot connect to {uri}: {_first_line(error)}") from error


def _aws_identity() -> dict[str, Any]:
    """Where boto3 is there, it finds profiles, SSO and the like, which obstore does not know."""
    if find_spec("boto3") is None:
        return {}
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    if session.get_credentials() is None:
        return {}
    return {"credential_provider": Boto3CredentialProvider(session)}


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
        raise FileNotFoundError(errno.ENOENT, "no such object", uri) from error
    except AlreadyExistsError as error:
        raise FileExistsError(errno.EEXIST, "the object exists already", uri) from error
    except PreconditionError as error:
        raise BlockingIOError(errno.EAGAIN, "another version of the object", uri) from error
    except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
        raise PermissionError(errno.EACCES, _first_line(error), uri) from error
    except BaseError as error:
        raise OSError(errno.EREMOTEIO, _first_line(error), uri) from error


def _first_line(error: BaseException) -> str:
    """What a person can use of obstore's messages, which end with a dump."""
    text = str(error).partition("\n")[0]
    return " ".join(text.split())[:_MESSAGE_CHARACTERS]
