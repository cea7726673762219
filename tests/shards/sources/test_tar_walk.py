"""The walk over tar headers: what tarfile lists, and whatever tarfile passes over in silence."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.reliability.tar_damage import damage_all, example
from shards.errors import ArchiveError, SourceError
from shards.sources import tar_walk
from shards.sources.tar_walk import Member, MemberKind, walk
from tests.shards.sources.archives import FORMATS, tar

IN_A_FOLDER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def walked(tmp_path, content: bytes) -> list[Member]:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    return list(walk(bytes(path)))


def by_tarfile(content: bytes) -> list[tuple[bytes, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as archive:
        return [
            (os.fsencode(member.name), member.offset_data, member.size)
            for member in archive
            if member.isreg()
        ]


NAMES = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=140
).filter(lambda name: not name.endswith("/") and name.strip("/"))


@IN_A_FOLDER
@given(
    members=st.lists(st.tuples(NAMES, st.binary(max_size=1600)), max_size=6),
    format=st.sampled_from(["gnu", "pax"]),
    window=st.integers(1, 6),
)
def test_members_are_those_of_tarfile(tmp_path, monkeypatch, members, format, window):
    monkeypatch.setattr(tar_walk, "WINDOW", window * tar_walk.BLOCK)
    content = tar(members, format=FORMATS[format])
    found = walked(tmp_path, content)
    assert [(m.name, m.offset, m.size) for m in found] == by_tarfile(content)
    assert [content[m.offset : m.offset + m.size] for m in found] == [c for _, c in members]
    assert {m.kind for m in found} <= {MemberKind.FILE}


@pytest.mark.parametrize("format", FORMATS)
def test_long_and_foreign_names(tmp_path, format):
    members = [("d" * 90 + "/" + "f" * 90 + ".jpg", b"x"), ("../up.jpg", b"y"), ("/root.jpg", b"")]
    found = walked(tmp_path, tar(members, format=FORMATS[format]))
    assert [m.name.decode() for m in found] == [name for name, _ in members]


def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9\n.jpg")
    found = walked(tmp_path, tar([(name, b"x")], format=tarfile.GNU_FORMAT))
    assert found[0].name == b"caf\xe9\n.jpg"


def kinds() -> list[tarfile.TarInfo]:
    made = []
    for name, kind in {
        "link": tarfile.SYMTYPE,
        "hard": tarfile.LNKTYPE,
        "folder": tarfile.DIRTYPE,
        "pipe": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
    }.items():
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "target"
        made.append(info)
    return made


def test_what_is_no_file_is_said_so(tmp_path):
    found = walked(tmp_path, tar([("a.jpg", b"x")], extra=kinds()))
    assert [m.kind.value for m in found] == [
        "file", "link", "link", "directory", "special_file", "special_file",
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_sparse_files_are_said_so(tmp_path, format):
    with open(tmp_path / "hole.jpg", "wb") as file:
        for part in range(40):
            file.seek(part << 20)
            file.write(b"x" * 4096)
        file.truncate(1 << 30)
    (tmp_path / "after.jpg").write_bytes(b"after")
    command = ["tar", "--sparse", f"--format={format}", "-cf", "s.tar", "hole.jpg", "after.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    hole, after = walk(bytes(tmp_path / "s.tar"))
    assert hole.kind is MemberKind.SPARSE
    assert (after.name, after.kind, after.size) == (b"after.jpg", MemberKind.FILE, 5)


def test_sizes_beyond_eight_gib(tmp_path):
    path = tmp_path / "big.tar"
    size = 9 << 30
    with open(path, "wb") as file:
        for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            info = tarfile.TarInfo("big.jpg")
            info.size = size
            file.write(info.tobuf(format))
            file.seek(size, os.SEEK_CUR)
        file.write(bytes(1024))
    assert [m.size for m in walk(bytes(path))] == [size, size]


def test_a_cut_a_flip_and_a_hole_are_always_reported(tmp_path):
    content = example(members=7, format="pax")
    figures = damage_all(content, tmp_path / "damaged.tar", flips=64)
    assert figures.reported == figures.tried > 500
    assert figures.silent_in_tarfile > 100


@IN_A_FOLDER
@given(data=st.data(), format=st.sampled_from(sorted(FORMATS)))
def test_any_flip_in_a_header_is_reported(tmp_path, data, format):
    content = bytearray(
        tar([(f"{n}.jpg", b"x" * 700 * n) for n in range(3)], format=FORMATS[format])
    )
    with tarfile.open(fileobj=io.BytesIO(bytes(content))) as archive:
        starts = [member.offset for member in archive]
    position = data.draw(st.sampled_from(starts)) + data.draw(st.integers(0, 511))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ArchiveError, match="offset"):
        walked(tmp_path, bytes(content))


def test_what_is_complete_is_not_reported(tmp_path):
    content = tar([("a.jpg", b"x")])
    end = 1024 + 1024
    for stop in range(end, len(content) + 1, 100):
        assert len(walked(tmp_path, content[:stop])) == 1
    assert len(walked(tmp_path, content + bytes(5))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "without its end marker"),
        (b"x", "no tar archive"),
        (b"x" * 700, "no tar archive"),
        (gzip.compress(tar([("a.jpg", b"x")])), "gzip, not tar: unpack it"),
        (tar([("a.jpg", b"x")]) * 2, "content after them"),
        (tar([("a.jpg", b"x")])[:1536], "inside its end marker"),
        (tar([("a.jpg", b"x" * 9000)])[:2048], "9000 bytes begins here, and the archive ends"),
        (tar([("x" * 200, b"x")])[:1024] + bytes(2048), "ends inside|no member after it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_is_named(tmp_path, content, reason):
    with pytest.raises(ArchiveError, match=reason) as caught:
        walked(tmp_path, content)
    assert caught.value.exit_code == 1
    assert str(tmp_path / "a.tar") in str(caught.value)


def pax(records: bytes) -> bytes:
    """A pax header of these records, and a file after it."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(records)
    header = info.tobuf(tarfile.USTAR_FORMAT)
    return header + records.ljust(512, b"\0") + tar([("a.jpg", b"x")], format=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize(
    "records",
    [b"12 path=a\n", b"8 path=a\n", b"path=a\n", b"9 path\n", b"99 path=a\n", b"-1 path=a\n",
     b"11 path=a\0b\n", b"11 size=abc\n", b"0 path=a\n"],
)  # fmt: skip
def test_extended_headers_are_read_strictly(tmp_path, records):
    assert [m.name for m in walked(tmp_path, pax(b"10 path=b\n"))] == [b"b"]
    with pytest.raises(ArchiveError, match=r"malformed|zero byte|no number"):
        walked(tmp_path, pax(records))


def test_checksums_of_signed_bytes_are_taken(tmp_path):
    content = bytearray(tar([("é.jpg", b"x")], format=tarfile.GNU_FORMAT))
    content[148:156] = b" " * 8
    signed = sum(byte - 256 if byte > 127 else byte for byte in content[:512])
    content[148:156] = b"%06o\0 " % signed
    assert walked(tmp_path, bytes(content))[0].name == "é.jpg".encode()


def test_checksums_with_leading_spaces_are_taken_if_all_have_them(tmp_path):
    content = bytearray(tar([("a.jpg", b""), ("b.jpg", b"")], format=tarfile.USTAR_FORMAT))
    for start in (0, 512):
        content[start + 148] = 0x20
    assert len(walked(tmp_path, bytes(content))) == 2
    content[148] = 0x30
    with pytest.raises(ArchiveError, match="in two ways"):
        walked(tmp_path, bytes(content))


def test_what_cannot_be_opened_is_an_error_of_the_source(tmp_path):
    with pytest.raises(SourceError, match=r"cannot read the archive .*gone\.tar: No such file"):
        list(walk(bytes(tmp_path / "gone.tar")))
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(SourceError, match="no regular file"):
        list(walk(bytes(tmp_path / "pipe.tar")))


def test_an_archive_that_changes_meanwhile_is_reported(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar([("a.jpg", b"x"), ("b.jpg", b"y")]))
    members = walk(bytes(path))
    next(members)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ArchiveError, match="changed while it was read"):
        list(members)
