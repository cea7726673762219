"""From what the user named to sources.

    photos/                        the images below a directory
    'photos/**/*.jpg'              what a pattern matches
    a.jpg b.png                    image files
    list.txt, -                    a list with a path or URI a line, or the same on standard input
    shard-{000000..000099}.tar     tar archives, WebDataset's
    train-00000-of-00004.parquet   tables with image bytes, or with paths
    manifest.csv .tsv .jsonl       tables with paths
    s3://bucket/photos/            the same of objects, in all these forms

Archives, tables of images and image files that are named together are one source each, so that what
a shell makes of `*.tar` is the same as the pattern.
"""
# ruff: noqa: PTH109, PTH120, PTH122 - pathlib refuses bytes

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import pyarrow.parquet as pq

from shards.errors import SourceError
from shards.names import shown
from shards.sources.braces import expanded, has_braces
from shards.sources.directory import DirectorySource, GlobSource
from shards.sources.located import directory_above, named_by, opened_arrow, path_of
from shards.sources.manifest import FileSource, ListSource, ManifestSource
from shards.sources.parquet import ParquetSource, image_column
from shards.sources.path_kinds import PathKind, bucket_name, kinds_of
from shards.sources.pattern import is_pattern
from shards.sources.schemes import check_scheme, scheme_of
from shards.sources.source import ListingOptions, Source
from shards.sources.tables import table_errors
from shards.sources.tar import TarSource

__all__ = ["InputFormat", "open_sources"]

InputFormat = Literal["auto", "files", "webdataset", "parquet", "manifest"]

STDIN = ("-", "/dev/stdin")
TABLES = (b".csv", b".tsv", b".jsonl", b".ndjson")
LISTS = (b".txt", b".lst")
COMPRESSED = (b".gz", b".tgz", b".bz2", b".xz", b".zst", b".zip", b".7z")
CONTAINERS: dict[InputFormat, tuple[bytes, ...]] = {
    "webdataset": (b".tar",),
    "parquet": (b".parquet",),
    "manifest": (*TABLES, *LISTS, b".parquet"),
}
"""How files of a format end; those of image files are the user's."""

_SUFFIXES = tuple({suffix for group in CONTAINERS.values() for suffix in group})


@dataclass(frozen=True, slots=True)
class _Word:
    """One word of the user's, or one of the names that it stands for.

    Attributes:
        given: As it was given.
        path: Its key: absolute, without a slash at its end.
        kind: What is there; None for a pattern.
    """

    given: str
    path: bytes
    kind: PathKind | None


def open_sources(
    given: Sequence[str],
    options: ListingOptions,
    format: InputFormat = "auto",
    stdin: BinaryIO | None = None,
) -> list[Source]:
    """Find out what each word names, and open it; nothing is listed yet.

    Args:
        given: At least one.
        options: How they will be listed.
        format: What all of them are; auto tells by their names.
        stdin: For `-`; None is this process's.

    Raises:
        SourceError: One is not there, cannot be read, or is of no known kind.
        StoreError: A store cannot be reached as configured.
    """
    sources: list[Source] = []
    files: dict[tuple[InputFormat, bytes], list[_Word]] = defaultdict(list)
    for text in given:
        if text in STDIN:
            stream = stdin or sys.stdin.buffer
            sources.append(ListSource(stream, options.root or os.getcwdb(), "-", options))
            continue
        for word in _words(text, options, format):
            if word.kind is PathKind.DIRECTORY:
                words = _in_directory(word, options, format, sources)
            elif word.kind is None:
                sources.append(GlobSource(word.given, options))
                words = []
            else:
                words = [word]
            for each in words:
                files[_format_of(each, options, format), bucket_name(each.path)].append(each)
    for (kind, _), words in files.items():
        sources += _together(kind, words, options)
    return sources


def _words(given: str, options: ListingOptions, format: InputFormat) -> list[_Word]:
    """Expand ranges, and patterns of containers."""
    check_scheme(os.fsencode(given))
    try:
        name = named_by(given)
    except ValueError as error:
        raise SourceError(f"{error}. Percent-encode it, or give a path.") from error
    if "://" in name and not re.match(r"\w+://[^/*?\[{]+(/|$)", name):
        raise SourceError(f"{given} names no bucket: expected s3://bucket/prefix or gs://bucket.")
    suffixes = (*options.suffixes, *_SUFFIXES)
    [kind] = kinds_of([name], suffixes)
    if kind is not None:
        return [_Word(given, path_of(name), kind)]
    names = expanded(name) if has_braces(name) else [name]
    kinds = kinds_of(names, suffixes) if names != [name] else [kind]
    words = []
    for each, kind in zip(names, kinds, strict=True):
        word = _Word(each, path_of(each), kind)
        if kind is None and is_pattern(each):
            words += _matches(each, options, format) or [word]
        elif kind is not None:
            words.append(word)
        else:
            raise _nothing_there(each, given)
    return words


def _nothing_there(name: str, given: str) -> SourceError:
    of = f" of {given}" if name != given else ""
    if scheme_of(os.fsencode(name)):
        return SourceError(
            f"no such object: {name}{of}; and nothing lies below it. Give a prefix, a pattern in "
            "quotes, or objects: images, .tar archives, .parquet files, or a .csv, .jsonl or .txt "
            "that names images. A % in a key is written %25."
        )
    return SourceError(
        f"no such file or directory: {name}{of}. Give a directory, a pattern in quotes, "
        "image files, .tar archives, .parquet files, or a .csv, .jsonl or .txt that names "
        "images."
    )


def _matches(pattern: str, options: ListingOptions, format: InputFormat) -> list[_Word]:
    """The containers that a pattern matches; none where it is a pattern of images."""
    ends = os.path.splitext(os.fsencode(pattern))[1].lower()
    wanted = (
        CONTAINERS.get(format, ()) if format != "auto" else (ends,) if ends in _SUFFIXES else ()
    )
    if not wanted:
        return []
    listed = GlobSource(pattern, replace(options, extensions=tuple(map(os.fsdecode, wanted))))
    return [_Word(pattern, key, PathKind.FILE) for batch in listed.batches() for key in batch.keys]


def _in_directory(
    word: _Word, options: ListingOptions, format: InputFormat, sources: list[Source]
) -> list[_Word]:
    """A directory of images is a source; of containers where that is said, these are returned."""
    if format in ("auto", "files"):
        sources.append(DirectorySource(word.path, word.given, options))
        return []
    suffixes = tuple(map(os.fsdecode, CONTAINERS[format]))
    listed = DirectorySource(word.path, word.given, replace(options, extensions=suffixes))
    return [_Word(word.given, key, PathKind.FILE) for batch in listed.listing for key in batch.keys]


def _format_of(word: _Word, options: ListingOptions, format: InputFormat) -> InputFormat:
    """What a file is."""
    name = word.path.lower()
    if name.endswith(COMPRESSED) and not name.endswith(options.suffixes):
        raise SourceError(
            f"{shown(word.path)} is compressed: its members cannot be read by offset, and images "
            "hardly shrink. Unpack it: gunzip FILE.tar.gz leaves FILE.tar."
        )
    if format != "auto":
        return format
    for kind, suffixes in CONTAINERS.items():
        if name.endswith(suffixes):
            return _kind_of_parquet(word, options) if name.endswith(b".parquet") else kind
    if name.endswith(options.suffixes):
        return "files"
    raise SourceError(
        f"{shown(word.path)}: its name does not say what it is. Say it by --input-format: files "
        "for an image, webdataset for a tar archive, parquet, or manifest for a table or list of "
        "paths."
    )


def _kind_of_parquet(word: _Word, options: ListingOptions) -> InputFormat:
    """Whether a table holds images or names them."""
    if options.uri_column is not None:
        return "manifest"
    with table_errors(word.path):
        schema = pq.read_schema(opened_arrow(word.path))
    has_images = options.image_column is not None or image_column(schema, None) is not None
    return "parquet" if has_images else "manifest"


def _together(kind: InputFormat, words: list[_Word], options: ListingOptions) -> list[Source]:
    """Open files of one kind."""
    paths = [word.path for word in words]
    given = " ".join(dict.fromkeys(word.given for word in words))
    if len(given) > 200:
        given = f"{words[0].given} and {len(words) - 1} more"
    if kind == "manifest":
        return [_named_by(word, options) for word in words]
    root = directory_above(paths)
    opened: dict[InputFormat, Callable[..., Source]] = {
        "webdataset": TarSource,
        "parquet": ParquetSource,
        "files": FileSource,
    }
    return [opened[kind](paths, root, given, options)]


def _named_by(word: _Word, options: ListingOptions) -> Source:
    if word.path.lower().endswith((*TABLES, b".parquet")):
        return ManifestSource(word.path, word.given, options)
    return ListSource(word.path, options.root or os.path.dirname(word.path), word.given, options)
