import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shards.columns import OptionalColumns
from shards.errors import ErrorKind
from shards.footer import SCHEMA_VERSION, FooterInfo, Provenance
from shards.predictions import ShardResults, build_table, encode, footer_of, schema_v1
from shards.ranking import Ranking
from shards.seal import SEAL_KEY
from tests.shards.factories import LABELS, WHEN, footer, provenance, results, shard_inputs, table

GOLDEN = json.loads((Path(__file__).parent.parent / "golden/schema_v1.json").read_text())
DOCS = Path(__file__).parent.parent.parent / "docs/schema.md"
PATHS = [b"/data/%d.jpg" % number for number in range(6)]


def described(schema: pa.Schema) -> list[list[object]]:
    return [[field.name, str(field.type), field.nullable] for field in schema]


def written(rows: pa.Table) -> pq.ParquetFile:
    return pq.ParquetFile(pa.py_buffer(encode(rows, footer(rows))))


VARIANTS = {
    "columns": OptionalColumns(),
    "columns optional_columns": OptionalColumns(logits=True, embedding=True),
    "columns wide_columns_of_top_k_3": OptionalColumns(wide=3),
    "columns optional_columns wide_columns_of_top_k_3": OptionalColumns(
        logits=True, embedding=True, wide=3
    ),
}


def golden(names: str, prefix: str = "") -> list[list[object]]:
    """The columns of some lists of the golden file, one list after another."""
    return [column for name in names.split() for column in GOLDEN[name.replace("columns", prefix)]]


def variant(columns: OptionalColumns) -> pa.Table:
    """Rows that have the optional columns, some of them of images that failed."""
    numbers = np.arange(30, dtype=np.float32).reshape(6, 5)
    found = results(
        6,
        errors={2: (ErrorKind.EMPTY, "")},
        logits=numbers if columns.logits else None,
        embedding=numbers[:, :2] if columns.embedding else None,
    )
    form = "wide" if columns.wide > 1 else "struct"
    return table(shard_inputs(PATHS), found, top_k=columns.wide, form=form)


def test_the_golden_file_is_of_this_version():
    assert GOLDEN["schema_version"] == SCHEMA_VERSION


@pytest.mark.parametrize("names", VARIANTS)
def test_every_variant_of_the_schema_is_the_golden_one(names):
    columns = VARIANTS[names]
    assert described(schema_v1(columns)) == golden(names, "columns")
    assert [name for name, *_ in golden(names, "columns")[14:]] == list(columns.names)


@pytest.mark.parametrize("names", VARIANTS)
def test_every_variant_of_a_file_is_the_golden_one(names):
    file = written(variant(VARIANTS[names]))
    assert described(file.schema_arrow) == golden(names, "columns")
    assert all(field.metadata[b"description"] for field in file.schema_arrow)
    parquet = [[c.path, c.physical_type, str(c.logical_type)] for c in file.schema]
    assert parquet == golden(names, "parquet_columns")


def test_error_kinds_are_the_golden_ones():
    assert [kind.value for kind in ErrorKind] == GOLDEN["error_kinds"]


def test_footer_keys_are_the_golden_ones():
    rows = table(shard_inputs(PATHS))
    file = written(rows)
    assert set(file.metadata.metadata) == {b"nightshift", SEAL_KEY, b"ARROW:schema"}
    assert sorted(json.loads(file.metadata.metadata[b"nightshift"])) == GOLDEN["footer_keys"]


def test_docs_explain_every_column_kind_and_key():
    text = DOCS.read_text()
    columns = [name for name, *_ in GOLDEN["columns"] + GOLDEN["optional_columns"]]
    for name in columns + GOLDEN["error_kinds"] + GOLDEN["footer_keys"]:
        assert f"`{name}`" in text
    assert f"version {SCHEMA_VERSION}" in text


def test_rows_say_what_became_of_each_image():
    errors = {1: (ErrorKind.TRUNCATED, "ends after 20 bytes")}
    found = results(3, errors=errors)
    found.widths[1] = 0
    rows = table(shard_inputs([b"/data/a.jpg", b"/data/b/\xff.jpg", b"/data/c.jpg"]), found)
    first, second, third = rows.to_pylist()
    assert first == {
        "uri": "file:///data/a.jpg",
        "file_name": "a.jpg",
        "status": "ok",
        "label": "zero",
        "label_id": 0,
        "score": pytest.approx(0.6),
        "score_margin": pytest.approx(0.25),
        "topk": [
            {"label": "zero", "label_id": 0, "score": pytest.approx(0.6)},
            {"label": "one", "label_id": 1, "score": pytest.approx(0.35)},
            {"label": "two", "label_id": 2, "score": pytest.approx(0.1)},
        ],
        "width": 40,
        "height": 30,
        "error_kind": None,
        "error": None,
        "run_id": "run-1",
        "predicted_at": WHEN,
    }
    assert second == {
        "uri": "file:///data/b/%FF.jpg",
        "file_name": "b/\\xff.jpg",
        "status": "error",
        "label": None,
        "label_id": None,
        "score": None,
        "score_margin": None,
        "topk": None,
        "width": None,
        "height": 30,
        "error_kind": "truncated",
        "error": "ends after 20 bytes",
        "run_id": "run-1",
        "predicted_at": WHEN,
    }
    assert [entry["label"] for entry in third["topk"]] == ["two", "three", "four"]


def naive(paths, found: ShardResults, top_k: int) -> list[dict[str, object]]:
    """The predictions, row by row."""
    rows = []
    for row in range(len(paths)):
        ids, scores = found.label_ids[row], found.scores[row]
        ok = row not in found.errors and all(math.isfinite(score) for score in scores)
        kind, _ = found.errors.get(row, (ErrorKind.INVALID_SCORES, ""))
        entries = [
            {"label": LABELS[i], "label_id": int(i), "score": float(score)}
            for i, score in list(zip(ids, scores, strict=True))[:top_k]
            if ok
        ]
        rows.append(
            {
                "status": "ok" if ok else "error",
                "label": entries[0]["label"] if ok else None,
                "label_id": entries[0]["label_id"] if ok else None,
                "score": entries[0]["score"] if ok else None,
                "score_margin": float(scores[0] - scores[1]) if ok and len(ids) > 1 else None,
                "topk": entries if ok else None,
                "width": int(found.widths[row]) or None,
                "height": int(found.heights[row]) or None,
                "error_kind": None if ok else kind.value,
            }
        )
    return rows


@st.composite
def any_results(draw) -> ShardResults:
    rows, k = draw(st.integers(1, 8)), draw(st.integers(1, 5))
    ids = draw(hnp.arrays(np.int32, (rows, k), elements=st.integers(0, len(LABELS) - 1)))
    scores = st.floats(0, 1, width=32) | st.just(math.nan) | st.just(math.inf)
    error = st.tuples(st.sampled_from(ErrorKind), st.text())
    errors = draw(st.dictionaries(st.integers(0, rows - 1), error))
    for row in errors:
        ids[row] = 2**30  # what is in rows of failed images must not be looked at
    return ShardResults(
        label_ids=ids,
        scores=draw(hnp.arrays(np.float32, (rows, k), elements=scores)),
        widths=draw(hnp.arrays(np.int32, rows, elements=st.integers(0, 9))),
        heights=draw(hnp.arrays(np.int32, rows, elements=st.integers(0, 9))),
        errors=errors,
    )


@settings(max_examples=80, deadline=None)
@given(found=any_results(), top_k=st.integers(1, 6))
def test_a_written_table_equals_the_naive_one(found, top_k):
    paths = [b"/data/%d.jpg" % number for number in range(len(found.widths))]
    rows = written(table(shard_inputs(paths), found, top_k=top_k)).read()
    rows.validate(full=True)
    expected = naive(paths, found, top_k)
    names = list(expected[0])
    assert rows.select(names).to_pylist() == expected
    counted = footer_of(rows, provenance(), work_key="w")
    assert counted.rows == counted.ok + counted.errors == len(paths)
    assert counted.errors == sum(counted.errors_by_kind.values())
    assert counted.ok == sum(row["status"] == "ok" for row in expected)


def test_scores_that_are_no_numbers_make_error_rows():
    found = results(3)
    found.scores[1, 2] = np.nan
    rows = table(shard_inputs(PATHS[:3]), found).to_pylist()
    assert [row["error_kind"] for row in rows] == [None, "invalid_scores", None]
    assert rows[1]["label"] is None
    assert "not finite" in rows[1]["error"]


@pytest.mark.parametrize(
    ("rank", "value", "kind"),
    [
        (0, -np.inf, "invalid_scores"),
        (0, np.inf, "invalid_scores"),
        (0, np.nan, "invalid_scores"),
        (1, np.nan, "invalid_scores"),
        (1, np.inf, "invalid_scores"),
        (1, -np.inf, None),
        (2, -np.inf, None),
    ],
)
def test_a_masked_class_behind_the_best_is_no_error(rank, value, kind):
    """As of `--activation none`, where the graph masks classes with -inf."""
    found = results(2)
    found.scores[1, rank:] = value
    rows = table(shard_inputs(PATHS[:2]), found).to_pylist()
    assert [row["error_kind"] for row in rows] == [None, kind]
    if kind is None:
        assert [entry["score"] for entry in rows[1]["topk"]][rank:] == [value] * (3 - rank)
        assert (rows[1]["score_margin"] is None) == (rank == 1)


def test_the_first_reason_is_kept_when_scores_are_no_numbers_either():
    found = results(1, errors={0: (ErrorKind.EMPTY, "the file is empty")})
    found.scores[0] = np.nan
    [row] = table(shard_inputs(PATHS[:1]), found).to_pylist()
    assert (row["error_kind"], row["error"]) == ("empty", "the file is empty")


def test_a_model_with_one_class_has_no_margin():
    rows = table(shard_inputs(PATHS), results(6, k=1))
    assert rows.column("score_margin").null_count == 6
    assert rows.column("score").null_count == 0


def test_top_k_of_one_still_has_a_margin():
    rows = table(shard_inputs(PATHS), results(6, k=2), top_k=1)
    assert rows.column("score_margin").null_count == 0
    assert {len(entries) for entries in rows.column("topk").to_pylist()} == {1}


def test_logits_and_embeddings_are_kept_where_asked_for():
    logits = np.arange(30, dtype=np.float32).reshape(6, 5)
    for errors in ({2: (ErrorKind.EMPTY, "")}, {}):
        found = results(6, logits=logits, embedding=-logits[:, :3], errors=errors)
        rows = written(table(shard_inputs(PATHS), found)).read()
        for name, values in (("logits", logits), ("embedding", -logits[:, :3])):
            expected = [None if row in errors else values[row].tolist() for row in range(6)]
            assert rows.column(name).to_pylist() == expected


def test_messages_that_are_no_text_are_escaped():
    found = results(1, errors={0: (ErrorKind.NOT_FOUND, "no \udcff.jpg")})
    assert table(shard_inputs(PATHS[:1]), found).column("error")[0].as_py() == "no \\udcff.jpg"


def test_all_images_of_a_shard_may_fail():
    errors = dict.fromkeys(range(6), (ErrorKind.NOT_AN_IMAGE, "HTML"))
    rows = written(table(shard_inputs(PATHS), results(6, errors=errors))).read()
    assert rows.column("topk").null_count == 6
    assert footer(rows).errors_by_kind == {"not_an_image": 6}


@pytest.mark.parametrize(
    "name", ["label_ids", "scores", "widths", "heights", "logits", "embedding"]
)
def test_results_must_fit_the_shard(name):
    vectors = np.zeros((6, 5), np.float32)
    found = results(6, logits=vectors, embedding=vectors)
    parts = {field.name: getattr(found, field.name) for field in fields(found)}
    parts[name] = parts[name][:5]
    with pytest.raises(ValueError, match="do not fit a shard of 6 rows"):
        table(shard_inputs(PATHS), ShardResults(**parts))


def test_times_need_a_time_zone():
    with pytest.raises(ValueError, match="timezone"):
        build_table(
            shard_inputs(PATHS),
            results(6),
            labels=LABELS,
            ranking=Ranking(top_k=1),
            run_id="r",
            predicted_at=WHEN.replace(tzinfo=None),
        )


def test_encodings_suit_the_columns():
    file = written(table(shard_inputs(PATHS), results(6, errors={0: (ErrorKind.EMPTY, "")})))
    [group] = [file.metadata.row_group(i).to_dict() for i in range(file.num_row_groups)]
    columns = {column["path_in_schema"]: column for column in group["columns"]}
    assert {column["compression"] for column in columns.values()} == {"ZSTD"}
    assert all(column["statistics"] is not None for column in columns.values())
    split = {path for path, column in columns.items() if "BYTE_STREAM_SPLIT" in column["encodings"]}
    assert split == {"score", "score_margin", "topk.list.element.score"}
    plain = {path for path, column in columns.items() if not column["has_dictionary_page"]}
    assert plain == split | {"uri", "file_name"}
    assert all(column["has_column_index"] for column in file_indexes(file))


def file_indexes(file: pq.ParquetFile) -> list[dict[str, bool]]:
    group = file.metadata.row_group(0)
    return [
        {"has_column_index": group.column(i).has_column_index and group.column(i).has_offset_index}
        for i in range(group.num_columns)
    ]


def test_flipped_bits_are_found_by_page_checksums():
    rows = table(shard_inputs(PATHS))
    content = bytearray(encode(rows, footer(rows)))
    column = written(rows).metadata.row_group(0).column(0)
    content[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(pa.py_buffer(bytes(content)), page_checksum_verification=True)


def test_footers_survive_json():
    original = footer(table(shard_inputs(PATHS)))
    assert FooterInfo.from_json(original.to_json()) == original


def test_footers_of_later_minor_versions_are_read():
    original = footer(table(shard_inputs(PATHS)))
    later = json.loads(original.to_json()) | {"schema_version": "1.7", "more": 1}
    assert FooterInfo.from_json(json.dumps(later).encode()).rows == 6


def test_footers_of_1_0_are_read_without_what_1_1_added():
    flat = json.loads(footer(table(shard_inputs(PATHS))).to_json()) | {"schema_version": "1.0"}
    del flat["requested_precision"], flat["gate"]
    read = FooterInfo.from_json(json.dumps(flat).encode())
    assert (read.rows, read.provenance.requested_precision, read.provenance.gate) == (6, None, None)


@pytest.mark.parametrize("change", [{"schema_version": "2.0"}, {"schema_version": None}])
def test_footers_of_other_major_versions_are_refused(change):
    other = json.loads(footer(table(shard_inputs(PATHS))).to_json()) | change
    with pytest.raises(ValueError, match="schema_version"):
        FooterInfo.from_json(json.dumps(other).encode())


def test_footers_without_a_key_are_refused():
    flat = json.loads(footer(table(shard_inputs(PATHS))).to_json())
    del flat["work_key"]
    with pytest.raises(ValueError, match="work_key missing"):
        FooterInfo.from_json(json.dumps(flat).encode())


def test_footer_and_provenance_share_no_key():
    own = {field.name for field in fields(FooterInfo)} - {"provenance"}
    assert own.isdisjoint(field.name for field in fields(Provenance))
