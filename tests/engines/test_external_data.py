from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from engines import external_data
from engines.errors import ModelError
from engines.external_data import read_model
from tests.models.tiny import Tiny

DATA = "model.onnx.data"


def write(folder, name="model.onnx", *, location=DATA, tiny=None):
    """A tiny model whose weights lie in a file beside it, as torch.onnx.export writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        (tiny or Tiny()).proto(),
        folder / name,
        save_as_external_data=True,
        location=location,
        size_threshold=0,
    )
    return folder / name


def change(path, edit):
    """Edit the external tensors' entries in place, without touching their data."""
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        edit(entries)
        del tensor.external_data[:]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_complete(files):
    assert files.proto.SerializeToString(deterministic=True) == Tiny().proto().SerializeToString(
        deterministic=True
    )


def test_a_model_in_one_file_has_the_digest_that_sha256sum_prints(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(Tiny().proto().SerializeToString())
    files = read_model(path)
    assert_complete(files)
    assert files.digest == sha256(path)
    assert files.files == {"tiny.onnx": sha256(path)}


def test_weights_beside_the_model_are_brought_inside(tmp_path):
    path = write(tmp_path)
    files = read_model(path)
    assert_complete(files)
    assert files.files == {"model.onnx": sha256(path), DATA: sha256(tmp_path / DATA)}
    lines = f"{sha256(path)}\n{sha256(tmp_path / DATA)}\n"
    assert files.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_weights_in_a_folder_below_the_model_are_found(tmp_path):
    (tmp_path / "weights").mkdir()
    proto = Tiny().proto()
    for tensor in proto.graph.initializer:
        (tmp_path / "weights" / tensor.name).write_bytes(tensor.raw_data)
        set_external_data(tensor, f"weights/{tensor.name}")
        tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    files = read_model(tmp_path / "m.onnx")
    assert_complete(files)
    names = [tensor.name for tensor in proto.graph.initializer]
    assert list(files.files) == ["m.onnx", *sorted(f"weights/{name}" for name in names)]


def test_any_changed_byte_changes_the_digest(tmp_path):
    path = write(tmp_path)
    before = read_model(path).digest
    for file in (path, tmp_path / DATA):
        kept = file.read_bytes()
        changed = bytearray(kept)
        changed[-1] ^= 1
        file.write_bytes(changed)
        try:
            assert read_model(path).digest != before
        except ModelError:
            assert file == path  # the last byte of the ONNX file may be structure
        file.write_bytes(kept)
    assert read_model(path).digest == before


def test_tensors_in_attributes_subgraphs_and_functions_are_found(tmp_path):
    def external(name):
        tensor = numpy_helper.from_array(np.ones(2, np.float32), name)
        set_external_data(tensor, "d", offset=0, length=8)
        tensor.ClearField("raw_data")
        return tensor

    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("deep"))], "b", [], []
    )
    proto = Tiny().proto()
    proto.graph.node.append(helper.make_node("Constant", [], ["k"], value=external("attribute")))
    proto.graph.node.append(
        helper.make_node("If", ["k"], ["z"], then_branch=branch, else_branch=branch)
    )
    proto.functions.append(
        helper.make_function("f", "F", [], ["o"], branch.node, [helper.make_opsetid("", 17)])
    )
    sparse = onnx.SparseTensorProto(values=external("sparse"), dims=[4])
    proto.graph.sparse_initializer.append(sparse)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "d").write_bytes(np.ones(2, np.float32).tobytes())
    text = str(read_model(tmp_path / "m.onnx").proto)
    assert "EXTERNAL" not in text
    assert "external_data" not in text


def test_missing_weights_are_named_with_what_to_do(tmp_path):
    path = write(tmp_path / "full")
    alone = shutil.copy(path, tmp_path / "alone.onnx")
    with pytest.raises(ModelError, match=r"'model\.onnx\.data'.*torch\.onnx\.export.* copy 'model"):
        read_model(tmp_path / alone)


def test_weights_under_another_name_are_hinted_at(tmp_path):
    path = write(tmp_path)
    (tmp_path / DATA).rename(tmp_path / "r18.onnx.data")
    with pytest.raises(ModelError, match=r"too, or rename 'r18\.onnx\.data' to that if it is"):
        read_model(path)


@pytest.mark.parametrize(
    "location",
    ["../secret", "a/../../secret", "..", "/etc/hostname", "", "a\\b", "*/_ORT_MEM_ADDR_/*", "."],
)
def test_locations_outside_of_the_folder_are_refused(tmp_path, location):
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = write(tmp_path / "model")
    change(path, lambda entries: entries.update(location=location))
    with pytest.raises(ModelError, match=r"expected a relative path|no such file|not a regular"):
        read_model(path)


def test_a_link_that_leads_outside_is_refused(tmp_path):
    path = write(tmp_path / "model")
    shutil.move(tmp_path / "model" / DATA, tmp_path / "secret")
    (tmp_path / "model" / DATA).symlink_to("../secret")
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(path)


def test_a_folder_that_links_outside_is_refused(tmp_path):
    path = write(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "model" / DATA, tmp_path / "elsewhere" / "secret")
    (tmp_path / "model" / "sub").symlink_to(tmp_path / "elsewhere")
    change(path, lambda entries: entries.update(location="sub/secret"))
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_model(path)


def test_a_second_hard_link_is_refused(tmp_path):
    path = write(tmp_path / "model")
    os.link(tmp_path / "model" / DATA, tmp_path / "other-name")
    with pytest.raises(ModelError, match="2 hard links"):
        read_model(path)


def test_a_second_hard_link_is_no_matter_where_the_digest_is_known(tmp_path):
    path = write(tmp_path / "model")
    digest = read_model(path).digest
    os.link(tmp_path / "model" / DATA, tmp_path / "other-name")
    assert_complete(read_model(path, digest))
    (tmp_path / "other-name").write_bytes(bytes((tmp_path / "other-name").stat().st_size))
    with pytest.raises(ModelError, match=r"another model than .* expected " + digest):
        read_model(path, digest)


@pytest.mark.parametrize("kind", ["one file", "with data"])
def test_another_digest_is_refused(tmp_path, kind):
    path = tmp_path / "model.onnx"
    if kind == "one file":
        path.write_bytes(Tiny().proto().SerializeToString())
    else:
        write(tmp_path)
    digest = read_model(path).digest
    assert read_model(path, digest.upper()).digest == digest
    with pytest.raises(ModelError, match=f"its SHA-256 is {digest}, expected {'0' * 64}"):
        read_model(path, "0" * 64)
    if kind == "with data":  # the ONNX file alone does not vouch for its data
        with pytest.raises(ModelError, match="another model"):
            read_model(path, sha256(path))


def test_a_link_loop_is_an_error_and_no_endless_search(tmp_path):
    path = write(tmp_path)
    (tmp_path / DATA).unlink()
    (tmp_path / DATA).symlink_to(DATA)
    with pytest.raises(ModelError, match="Too many levels of symbolic links"):
        read_model(path)


def test_a_fifo_does_not_hang(tmp_path):
    path = write(tmp_path)
    (tmp_path / DATA).unlink()
    os.mkfifo(tmp_path / DATA)
    with pytest.raises(ModelError, match="not a regular file"):
        read_model(path)
    os.mkfifo(tmp_path / "fifo.onnx")
    with pytest.raises(ModelError, match="not a regular file"):
        read_model(tmp_path / "fifo.onnx")


def test_hugging_faces_cache_of_links_is_read(tmp_path):
    """snapshots/<revision>/onnx/model.onnx links to blobs/<digest>, and its data likewise."""
    path = write(tmp_path / "download")
    blobs = tmp_path / "models--org--name" / "blobs"
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc" / "onnx"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in (path, tmp_path / "download" / DATA):
        shutil.move(file, blobs / sha256_name(file.name))
        (snapshot / file.name).symlink_to(f"../../../blobs/{sha256_name(file.name)}")
    files = read_model(snapshot / "model.onnx")
    assert_complete(files)
    assert set(files.files) == {"model.onnx", DATA}


def sha256_name(name):
    return hashlib.sha256(name.encode()).hexdigest()


def test_a_link_to_a_model_finds_the_weights_beside_the_model(tmp_path):
    path = write(tmp_path / "models" / "v3")
    (tmp_path / "current.onnx").symlink_to(path)
    assert_complete(read_model(tmp_path / "current.onnx"))


def test_a_linked_folder_is_as_good_as_the_folder(tmp_path):
    path = write(tmp_path / "v3")
    (tmp_path / "current").symlink_to("v3")
    assert read_model(tmp_path / "current" / "model.onnx").digest == read_model(path).digest


@pytest.mark.parametrize(
    "entry",
    [
        {"offset": 10**6},
        {"length": 10**6},
        {"offset": 2**63},
        {"offset": 2**64 - 4, "length": 8},
    ],
)
def test_ranges_outside_of_the_file_are_refused(tmp_path, entry):
    path = write(tmp_path)
    change(path, lambda entries: entries.update(entry))
    with pytest.raises(ModelError, match=r"wants .* bytes from byte|offset or length"):
        read_model(path)


@pytest.mark.parametrize("value", ["-1", "", "1.5", "0x10", "٣", "9" * 40])
def test_offsets_that_are_no_numbers_are_refused(tmp_path, value):
    path = write(tmp_path)
    change(path, lambda entries: entries.update(offset=value))
    with pytest.raises(ModelError, match="offset or length"):
        read_model(path)


def test_a_data_file_cut_short_is_named_with_both_sizes(tmp_path):
    path = write(tmp_path)
    data = (tmp_path / DATA).read_bytes()
    (tmp_path / DATA).write_bytes(data[:-5])
    with pytest.raises(ModelError, match=rf"which has {len(data) - 5}"):
        read_model(path)


def test_many_tensors_over_one_range_do_not_add_up_beyond_the_limit(tmp_path, monkeypatch):
    path = write(tmp_path)
    change(path, lambda entries: entries.update(offset=0, length=(tmp_path / DATA).stat().st_size))
    limit = path.stat().st_size + 2 * (tmp_path / DATA).stat().st_size
    monkeypatch.setattr(external_data, "MAX_MODEL_BYTES", limit)
    with pytest.raises(ModelError, match="too large"):
        read_model(path)


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "giant.onnx"
    path.write_bytes(b"")
    os.truncate(path, 3 << 30)
    with pytest.raises(ModelError, match=r"too large.*3,221,225,472 bytes.*float16"):
        read_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"PK\x03\x04archive/data.pkl", "PyTorch"),
        (b"\x80\x02}q\x00.", "PyTorch"),
        (b"ftrt\x00\x00", "TensorRT plan"),
        (b"hello, world", "not an ONNX model"),
        (b"\x08\x08", "not an ONNX model"),
        (b"\xff" * 100, "not an ONNX model"),
    ],
)
def test_other_files_are_recognised(tmp_path, content, message):
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_model(tmp_path / "x.onnx")
    assert "x.onnx" in str(caught.value)


def test_a_model_cut_short_is_refused(tmp_path):
    content = Tiny().proto().SerializeToString()
    for length in range(1, len(content), 7):
        (tmp_path / "x.onnx").write_bytes(content[:length])
        with pytest.raises(ModelError, match="not an ONNX model"):
            read_model(tmp_path / "x.onnx")


def test_weights_that_are_a_git_lfs_pointer_are_recognised(tmp_path):
    path = write(tmp_path)
    (tmp_path / DATA).write_bytes(b"version https://git-lfs.github.com/spec/v1\n" + bytes(9999))
    with pytest.raises(ModelError, match="git lfs pull"):
        read_model(path)


def test_an_unreadable_file_is_named_with_the_reason(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read .*nothing\.onnx: No such file"):
        read_model(tmp_path / "nothing.onnx")
    with pytest.raises(ModelError, match=r"not a regular file|Is a directory"):
        read_model(tmp_path)


def test_tensors_without_external_data_are_untouched(tmp_path):
    proto = Tiny().proto()
    proto.graph.initializer.append(helper.make_tensor("plain", TensorProto.FLOAT, [1], [2.5]))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert read_model(tmp_path / "m.onnx").proto == proto
