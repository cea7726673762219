"""A bucket of an object store, as s3://bucket or gs://bucket, by obstore.

Who we are there, and where it is, come from the places where its own tools look: for S3 the
variables AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION and so on, the profile where boto3 is
installed, a container's or machine's role; for Google GOOGLE_APPLICATION_CREDENTIALS, the
application default credentials, the machine's account. Never from parameters.

Requests raise OSError (shards.store_request): FileNotFoundError and PermissionError where that is
what it is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.errors import StoreError
from shards.store_request import reason_of, store_errors

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["SCHEMES", "Bucket", "bucket_of", "store_errors"]

SCHEMES = ("gs", "s3")
"""Schemes of URIs that are object stores."""

CREDENTIALS_FOR = timedelta(minutes=9)
"""boto3 hands out what holds for ten minutes at least; what is kept longer may have run out."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Attributes:
        connect_s: For a connection.
        request_s: For one request, from the connection to the last byte.
        retry_s: Server errors, throttling and lost connections are tried again for so long.
    """

    connect_s: float
    request_s: float
    retry_s: float


ORDINARY = Patience(connect_s=10, request_s=60, retry_s=120)
"""A connection that died without a word (NAT does that) is given up while others are tried."""

UPLOAD = Patience(connect_s=10, request_s=900, retry_s=120)
"""A whole file goes in one request: a gigabyte takes a minute on a good line."""

FIRST = Patience(connect_s=4, request_s=8, retry_s=4)
"""Of the first requests a person waits for the answer, which most often is a wrong setting."""


class Bucket:
    """One bucket; for any number of threads, and not across a fork.

    Attributes:
        uri: As `s3://bucket`, without a slash at its end.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @property
    def store(self) -> ObjectStore:
        """For reading and small writes; keys are relative to the bucket.

        Raises:
            StoreError: obstore is not installed, or the name or the configuration is no good.
        """
        return self.store_with(ORDINARY)

    def store_with(self, patience: Patience) -> ObjectStore:
        """The same, for other requests; nothing is asked of it yet."""
        return _connected(self.uri, patience, os.getpid())


def bucket_of(uri: str) -> Bucket:
    """Connect to the bucket of a URI; nothing is asked of it yet.

    Args:
        uri: As `s3://bucket` or `s3://bucket/key`.

    Raises:
        StoreError: obstore is not installed, or the name or the configuration is no good.
    """
    scheme, _, rest = uri.partition("://")
    bucket = Bucket(f"{scheme.lower()}://{rest.partition('/')[0]}")
    _ = bucket.store
    return bucket


@cache
def _connected(uri: str, patience: Patience, process: int) -> ObjectStore:
    """A connection has threads, so each process makes its own."""
    scheme, _, name = uri.partition("://")
    if find_spec("obstore") is None:
        raise StoreError(
            f"{uri} needs the Python package obstore, which is not installed. "
            "Run: pip install 'nightshift[s3]'"
        )
    from obstore.exceptions import BaseError
    from obstore.store import GCSStore, S3Store

    try:
        if scheme == "gs":
            return GCSStore(name, **_manners(patience))
        manners = _manners(patience)
        identity = dict(_aws_identity(process))
        if certificates := identity.pop("root_certificate", None):
            manners["client_options"]["root_certificate"] = certificates
        # DeleteObjects is not to be had everywhere, and a single key needs no list.
        return S3Store(name, disable_bulk_delete=True, **manners, **identity)
    except (BaseError, ValueError, OSError) as error:
        raise StoreError(f"cannot connect to {uri}: {reason_of(error)}.") from error


def _manners(patience: Patience) -> dict[str, Any]:
    return {
        "client_options": {
            "timeout": timedelta(seconds=patience.request_s),
            "connect_timeout": timedelta(seconds=patience.connect_s),
            "user_agent": "nightshift",
            # No endpoint is so by default: whoever configures one wants it.
            "allow_http": True,
        },
        # Time ends the attempts, not their number: by default ten are made in some seconds.
        "retry_config": {
            "retry_timeout": timedelta(seconds=patience.retry_s),
            "max_retries": 10_000,
        },
    }


@cache
def _aws_identity(_process: int) -> dict[str, Any]:
    """Where boto3 is there, it finds profiles, SSO and the like, which obstore does not know.

    Where it finds nobody, obstore looks for itself, or signs nothing (AWS_SKIP_SIGNATURE).

    Raises:
        OSError: A file that the configuration names cannot be read.
        StoreError: It names a profile that is not there.
    """
    if find_spec("boto3") is None:
        return {}
    import boto3
    import botocore.session
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    found: dict[str, Any] = {}
    try:
        core = botocore.session.Session()
        session = boto3.Session(botocore_session=core)
        if session.get_credentials() is not None:
            found["credential_provider"] = Boto3CredentialProvider(session, ttl=CREDENTIALS_FOR)
        endpoint = ConfiguredEndpointProvider(
            full_config=core.full_config, scoped_config=core.get_scoped_config(), client_name="s3"
        ).provide()
        bundle = core.get_config_variable("ca_bundle")
    except BotoCoreError as error:
        raise StoreError(
            f"the AWS configuration cannot be used: {str(error).rstrip('.')}. Correct AWS_PROFILE "
            "or ~/.aws/config."
        ) from error
    if endpoint:
        found["endpoint"] = endpoint
    if bundle:
        found["root_certificate"] = Path(bundle).read_bytes()
    return found
