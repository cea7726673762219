"""The first requests that a bucket is asked: is it there, and does its store keep to conditions?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from shards.bucket import FIRST
from shards.errors import StoreError
from shards.object_path import ObjectPath
from shards.object_write import create, update
from shards.store_request import asked

__all__ = ["is_anything_below", "prove_conditions", "remedy_of"]

_REMEDIES = {
    r"NoSuchBucket|^404": "There is no such bucket: create it, or correct the name or the endpoint",
    r"^no credentials": (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run it where a role "
        "is given"
    ),
    r"InvalidAccessKeyId|SignatureDoesNotMatch|Token|^401": (
        "Check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the "
        "role of this machine"
    ),
    r"region|^30[1278]|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation": (
        "The bucket lies in another region: set AWS_REGION"
    ),
    r"TimeTooSkewed": "The clock of this machine is wrong: set it",
    r"^403": (
        "These credentials are known and may not do this: docs/object-stores.md lists the "
        "permissions that are needed"
    ),
    r"^501|NotImplemented": (
        "The store does not know what is asked of it, as conditional writes, by which runs at once "
        "are kept from overwriting each other's rows: update it, or write to a local --output and "
        "copy the finished files from there"
    ),
    r"^5|^409": "The store is overloaded, or out of order: run the same command later",
    r"certificate is not trusted": (
        "Set AWS_CA_BUNDLE or SSL_CERT_FILE to the certificate of who signed it"
    ),
    r"^no answer": "Check AWS_ENDPOINT_URL, the network and its proxies",
}
"""By what the reason matches, the first that does."""

_REMEDIES_GS = {
    r"^no credentials": (
        "Set GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or run "
        "it where a service account is given"
    ),
    r"^40[13]": (
        "Check the credentials and their role: docs/object-stores.md lists the permissions that "
        "are needed"
    ),
    r"certificate is not trusted": "Set SSL_CERT_FILE to the certificate of who signed it",
    r"^no answer": "Check the network and its proxies",
}


def prove_conditions(prefix: ObjectPath) -> None:
    """See that a key can be taken once, and a version be replaced once.

    Raises:
        StoreError: The bucket cannot be written as configured, or its store passes over conditions,
            so that two runs could overwrite each other's files.
    """
    probe = prefix / "state" / "probes" / uuid4().hex
    with _answers(prefix):
        _see(probe, "If-None-Match", create(b"1", probe, FIRST))
        try:
            _see(probe, "If-None-Match", not create(b"2", probe, FIRST))
            version = probe.version()
            if version is None:
                raise StoreError(f"{probe} was written, and is gone: what removes objects there?")
            _see(probe, "If-Match", update(b"3", probe, version, FIRST))
            _see(probe, "If-Match", not update(b"4", probe, version, FIRST))
        finally:
            _remove(probe)


def is_anything_below(prefix: ObjectPath, directory: ObjectPath) -> bool:
    """Whether there are objects below a key of an output.

    Raises:
        StoreError: The bucket cannot be read as configured.
    """
    import obstore

    with _answers(prefix):
        pages = obstore.list(prefix.bucket.store_with(FIRST), directory.key)
        return asked(str(directory), lambda: next(pages, None)) is not None


def _see(probe: ObjectPath, condition: str, as_expected: bool) -> None:
    if not as_expected:
        raise StoreError(
            f"the store of {probe.uri} passes over conditions of requests ({condition}): two runs "
            "at once could overwrite each other's rows. Update it, or write to a local --output "
            "and copy the finished files from there."
        )


def _remove(probe: ObjectPath) -> None:
    """Whoever may not remove anything leaves one byte."""
    import obstore

    store = probe.bucket.store_with(FIRST)
    with suppress(OSError):
        asked(str(probe), lambda: obstore.delete(store, probe.key))


@contextmanager
def _answers(prefix: ObjectPath) -> Iterator[None]:
    """Say of a store that refuses, or does not answer, what is to be set."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot use {prefix}: {reason}. {remedy_of(reason, prefix.uri)}."
        ) from error


def remedy_of(reason: str, uri: str) -> str:
    """Say what is to be set where a store refuses, or does not answer.

    Args:
        reason: Of the OSError.
        uri: Of the bucket, or of what is in it.
    """
    for rules in (_REMEDIES_GS if uri.startswith("gs:") else {}, _REMEDIES):
        for rule, text in rules.items():
            if re.search(rule, reason):
                return text
    return "Check endpoint, region, credentials and network"
