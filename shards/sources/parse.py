"""From what the user named to sources.

    photos/                        the images below a directory
    'photos/**/*.jpg'              what a pattern matches
    a.jpg b.png                    image files
    list.txt, -                    a list with a path or URI a line, or the same on standard input
    shard-{000000..000099}.tar     tar archives, WebDataset's
    train-00000-of-00004.parquet   tables with image bytes, or with paths
    manifest.csv .tsv .jsonl       tables with paths
    s3://bucket/prefix             what a store of objects holds (shards.sources.schemes)

Archives, tables of images and image files that are named together are one source each, so that what
a shell makes of `*.tar` is the same as the pattern.
"""
# ruff: noqa: PTH109, PTH112, PTH120, PTH122 - pathlib refuses bytes

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import SourceError
from shards.listing import absolute, list_directory
from shards.names import key_of, shown
from shards.sources.braces import expanded, has_braces
from shards.sources.directory import DirectorySource, GlobSource
from shards.sources.manifest import FileSource, ListSource, ManifestSource
from shards.sources.parquet import ParquetSource, image_column
from shards.sources.pattern import is_pattern
from shards.sources.schemes import scheme_of, store_of
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


@dataclass(frozen=True, slots=True)
class _Word:
    """One word of the user's, or one of the names that it stands for.

    Attributes:
        given: As it was given.
        path: Absolute.
    """

    given: str
    path: bytes


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
    """
    sources: list[Source] = []
    files: dict[InputFormat, list[_Word]] = defaultdict(list)
    for text in given:
        scheme = scheme_of(text.encode("utf-8", "surrogateescape"))
        if text in STDIN:
            stream = stdin or sys.stdin.buffer
            sources.append(ListSource(stream, options.root or os.getcwdb(), "-", options))
        elif scheme not in (None, "file"):
            sources.append(store_of(os.fsencode(text)).source(text, options))
        else:
            name = text if scheme is None else os.fsdecode(_local(text))
            for word in _words(text, name, options, format):
                if os.path.isdir(word.path):
                    _take_directory(word, options, format, sources, files)
                elif is_pattern(word.given) and not os.path.lexists(word.path):
                    sources.append(GlobSource(word.given, options))
                else:
                    files[_format_of(word, options, format)].append(word)
    for kind, words in files.items():
        sources += _together(kind, words, options)
    return sources


def _local(uri: str) -> bytes:
    try:
        return key_of(uri)
    except ValueError as error:
        raise SourceError(f"{error}. Percent-encode it, or give a path.") from error


def _words(given: str, name: str, options: ListingOptions, format: InputFormat) -> list[_Word]:
    """Expand ranges, and patterns of containers."""
    path = absolute(os.fsencode(name))
    if os.path.lexists(path):
        return [_Word(given, path)]
    names = expanded(name) if has_braces(name) else [name]
    words = []
    for each in names:
        word = _Word(each, absolute(os.fsencode(each)))
        if is_pattern(each) and not os.path.lexists(word.path):
            words += _matches(each, options, format) or [word]
        elif os.path.lexists(word.path):
            words.append(word)
        else:
            of = f" of {given}" if each != given else ""
            raise SourceError(
                f"no such file or directory: {each}{of}. Give a directory, a pattern in quotes, "
                "image files, .tar archives, .parquet files, or a .csv, .jsonl or .txt that names "
                "images."
            )
    return words


def _matches(pattern: str, options: ListingOptions, format: InputFormat) -> list[_Word]:
    """The containers that a pattern matches; none where it is a pattern of images."""
    suffixes = {suffix for group in CONTAINERS.values() for suffix in group}
    ends = os.path.splitext(os.fsencode(pattern))[1].lower()
    wanted = CONTAINERS.get(format, ()) if format != "auto" else (ends,) if ends in suffixes else ()
    if not wanted:
        return []
    listed = GlobSource(pattern, replace(options, extensions=tuple(map(os.fsdecode, wanted))))
    return [_Word(pattern, key) for batch in listed.batches() for key in batch.keys]


def _take_directory(
    word: _Word,
    options: ListingOptions,
    format: InputFormat,
    sources: list[Source],
    files: dict[InputFormat, list[_Word]],
) -> None:
    """A directory of images, or of containers where that is said."""
    if format in ("auto", "files"):
        sources.append(DirectorySource(word.path, word.given, options))
        return
    listing = list_directory(
        word.path,
        extensions=[os.fsdecode(suffix) for suffix in CONTAINERS[format]],
        recursive=options.recursive,
        exclude=options.exclude,
    )
    files[format] += [_Word(word.given, key) for batch in listing for key in batch.keys]


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
        schema = pq.read_schema(pa.OSFile(word.path))
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
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
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
