"""Everything that can be wrong with an output is named, and nothing that is right."""

from __future__ import annotations

import json
import os
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards import verify_plans
from shards.footer import FOOTER_KEY
from shards.local_tree import LocalTree
from shards.plan import PlanLog
from shards.plan_file import PlanWriter
from shards.predictions import open_writer
from shards.seal import seal
from shards.verify import Problem
from shards.verify_table import check_table
from shards.verify_tree import check_runs, leftovers
from tests.shards.factories import MODEL_ID, batches
from tests.shards.outputs import OTHER_MODEL, make_output, names, put_record, put_shard

FIRST, SECOND = "p000001-00000", "p000001-00001"


@pytest.fixture
def tree(tmp_path):
    nights = [names(*range(0, 20, 2)), names(*range(20))]
    return make_output(tmp_path / "out", nights, models=(MODEL_ID, OTHER_MODEL))


def check(tree, *, quick=False, workers=2):
    return check_table(tree, quick=quick, workers=workers)


def problems(tree, **options):
    """What is wrong, as (problem, name of the file below the output)."""
    found = check(tree, **options).findings
    return [(f.problem, os.path.relpath(f.path, tree.root)) for f in found]


def file_of(tree, shard=FIRST, model=MODEL_ID):
    return tree.shard_path(model, shard)


def name_of(tree, shard=FIRST, model=MODEL_ID):
    return str(file_of(tree, shard, model).relative_to(tree.root))


def rewrite(path, change=lambda rows: rows, **footer):
    """Write a file anew with a right seal: only its content is wrong."""
    file = pq.ParquetFile(pa.OSFile(os.fsencode(path)))
    rows = change(file.read())
    entry = json.loads(file.metadata.metadata[FOOTER_KEY]) | footer
    sink = pa.BufferOutputStream()
    schema = rows.schema.with_metadata({FOOTER_KEY: json.dumps(entry).encode()})
    with open_writer(sink, schema) as writer:
        writer.write_table(rows.replace_schema_metadata(schema.metadata))
    content = memoryview(sink.getvalue()).cast("B")
    seal(content)
    path.write_bytes(content)


def column(name, change):
    """A change of one column's values."""

    def changed(rows):
        values = change(rows.column(name).to_pylist())
        place = rows.schema.get_field_index(name)
        field = rows.schema.field(place)
        return rows.set_column(place, field, pa.array(values, field.type))

    return changed


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_right_output_is_right_and_counted(tree, quick, workers):
    report = check(tree, quick=quick, workers=workers)
    assert report.findings == ()
    assert (report.plans, report.shards, report.images) == (2, 6, 20)
    assert report.models.keys() == {MODEL_ID, OTHER_MODEL}
    for model in report.models.values():
        assert (model.done, model.outdated, model.wrong, model.missing) == (6, 0, 0, 0)
        assert (model.rows, model.ok, model.errors) == (20, 14, 6)
        assert model.errors_by_kind == {"empty": 6}
        assert model.unsealed == 0


def test_work_that_is_not_done_is_no_error(tree):
    file_of(tree).unlink()
    file_of(tree, SECOND).unlink()
    report = check(tree)
    assert report.findings == ()
    model = report.models[MODEL_ID]
    assert (model.done, model.missing, model.images_missing, model.rows) == (4, 2, 8, 12)
    assert report.models[OTHER_MODEL].missing == 0


def test_an_output_without_rows_is_right(tmp_path):
    report = check(LocalTree.create(tmp_path))
    assert (report.findings, report.plans, dict(report.models)) == ((), 0, {})


def test_random_flipped_bits_are_found_and_name_their_file(tree):
    choose = random.Random(1)
    paths = sorted(tree.predictions.rglob("*.parquet"))
    for _ in range(60):
        path = choose.choice(paths)
        content = path.read_bytes()
        flipped = bytearray(content)
        flipped[choose.randrange(len(flipped))] ^= 1 << choose.randrange(8)
        path.write_bytes(flipped)
        assert problems(tree) == [(Problem.DAMAGED_FILE, str(path.relative_to(tree.root)))]
        path.write_bytes(content)
    assert problems(tree) == []


@pytest.mark.parametrize("left", [0, 3, 100, 0.5, 0.99])
@pytest.mark.parametrize("quick", [False, True])
def test_a_cut_file_is_found(tree, left, quick):
    path = file_of(tree)
    size = path.stat().st_size
    os.truncate(path, int(size * left) if isinstance(left, float) else left)
    assert problems(tree, quick=quick) == [(Problem.DAMAGED_FILE, name_of(tree))]
    assert check(tree, quick=quick).models[MODEL_ID].wrong == 1


@pytest.mark.parametrize("quick", [False, True])
def test_swapped_files_are_found(tree, quick):
    first, second = file_of(tree), file_of(tree, SECOND)
    kept = first.read_bytes()
    shutil.copyfile(second, first)
    second.write_bytes(kept)
    assert problems(tree, quick=quick) == [
        (Problem.WRONG_WORK, name_of(tree)),
        (Problem.WRONG_WORK, name_of(tree, SECOND)),
    ]


@pytest.mark.parametrize("quick", [False, True])
def test_a_file_of_another_model_is_found(tree, quick):
    shutil.copyfile(file_of(tree, model=OTHER_MODEL), file_of(tree))
    assert problems(tree, quick=quick) == [(Problem.WRONG_MODEL, name_of(tree))]


@pytest.mark.parametrize("quick", [False, True])
def test_a_shard_that_no_plan_has_is_found(tree, quick):
    extra = file_of(tree, "p000009-00000")
    shutil.copyfile(file_of(tree), extra)
    assert problems(tree, quick=quick) == [
        (Problem.UNKNOWN_SHARD, str(extra.relative_to(tree.root)))
    ]


@pytest.mark.parametrize(
    "name",
    [
        "note.txt",
        "model=digits@0123456789ab/p0000001-00000.parquet",
        "model=digits@0123456789ab/.p000001-00000.parquet",
        "model=digits@0123456789ab/p000001-00000.parquet.tmp",
        "model=digits@0123456789ab/more/p000001-00000.parquet",
        "model=digits%400123456789ab/p000001-00000.parquet",
        "_SUCCESS",
    ],
)
@pytest.mark.parametrize("quick", [False, True])
def test_files_that_are_not_of_the_table_are_found(tree, name, quick):
    path = tree.predictions / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_of(tree).read_bytes())
    [(problem, found)] = problems(tree, quick=quick)
    assert problem is Problem.UNKNOWN_FILE
    assert path.is_relative_to(tree.root / found)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("uri", lambda values: [values[1], values[0], *values[2:]]),
        ("uri", lambda values: [values[1], *values[1:]]),
        ("file_name", lambda values: [*values[:-1], "elsewhere.jpg"]),
        ("status", lambda values: ["ok", *values[1:]]),
        ("status", lambda values: ["lost", *values[1:]]),
        ("error_kind", lambda values: [None, *values[1:]]),
        ("error", lambda values: [None, *values[1:]]),
        ("label", lambda values: [*values[:-1], None]),
        ("score", lambda values: [*values[:-1], None]),
    ],
)
def test_rows_that_are_not_the_plans_or_contradict_themselves_are_found(tree, name, change):
    rewrite(file_of(tree), column(name, change))
    assert problems(tree) == [(Problem.WRONG_ROWS, name_of(tree))]


def test_rows_too_many_and_too_few_are_found(tree):
    for rows, counts in ((3, {"rows": 3, "ok": 2}), (8, {"rows": 8, "ok": 6, "errors": 2})):
        put_shard(tree, log := PlanLog(tree, tool_version="0"), next(log.shards()))
        kinds = {"empty": counts.get("errors", 1)}
        rewrite(
            file_of(tree),
            lambda found, rows=rows: pa.concat_tables([found, found]).slice(0, rows),
            **{"errors_by_kind": kinds, "runs": None, **counts},
        )
        assert problems(tree, quick=True) == [(Problem.WRONG_ROWS, name_of(tree))]


@pytest.mark.parametrize(
    "footer",
    [
        {"rows": 5},
        {"ok": 4},
        {"errors": 0},
        {"errors_by_kind": {}},
        {"errors_by_kind": {"empty": 2}},
    ],
)
def test_a_footer_that_does_not_add_up_is_found(tree, footer):
    rewrite(file_of(tree), **footer)
    assert problems(tree, quick=True) == [(Problem.WRONG_COUNTS, name_of(tree))]


@pytest.mark.parametrize("footer", [{"errors_by_kind": {"truncated": 1}}, {"runs": {"run-2": 4}}])
def test_a_footer_that_adds_up_to_other_rows_is_found(tree, footer):
    rewrite(file_of(tree), **footer)
    assert problems(tree, quick=True) == []
    assert problems(tree) == [(Problem.WRONG_COUNTS, name_of(tree))]


def test_other_columns_are_found(tree):
    rewrite(file_of(tree), lambda rows: rows.append_column("more", pa.array([1] * len(rows))))
    rewrite(file_of(tree, SECOND), lambda rows: rows.drop_columns(["width"]))
    assert problems(tree, quick=True) == [
        (Problem.WRONG_SCHEMA, name_of(tree)),
        (Problem.WRONG_SCHEMA, name_of(tree, SECOND)),
    ]


def test_a_file_that_lost_its_seal_is_found_and_one_that_never_had_one_is_counted(tree):
    path, other = file_of(tree), file_of(tree, SECOND)
    for file, version in ((path, "1.2"), (other, "1.1")):
        rewrite(file, schema_version=version)
        file.write_bytes(file.read_bytes().replace(b"nightshift.sha256", b"nightshift.sha257"))
    report = check(tree)
    assert [(f.problem, f.path) for f in report.findings] == [(Problem.DAMAGED_FILE, str(path))]
    assert report.models[MODEL_ID].unsealed == 1


def test_rows_of_an_earlier_list_are_outdated_and_not_wrong(tree):
    log = PlanLog(tree, tool_version="0.1.0")
    update = log.extend(
        batches(names(*range(20)), size=2), root=b"/data", shard_size=4, run_id="run-3"
    )
    assert update.changed == 20
    report = check(tree)
    assert report.findings == ()
    assert (report.models[MODEL_ID].done, report.models[MODEL_ID].outdated) == (0, 6)
    for shard in log.shards():
        put_shard(tree, log, shard)
    report = check(tree)
    assert report.findings == ()
    assert (report.models[MODEL_ID].done, report.models[MODEL_ID].outdated) == (6, 0)


def test_a_shard_that_is_revised_while_it_is_checked_is_no_error(tree, monkeypatch):
    begun = verify_plans.Planned.versions
    log = PlanLog(tree, tool_version="0.1.0")
    revised = []

    def versions(planned, *shard):
        if not revised:  # after the plans were read, and before the first file
            revised.append(True)
            log.extend(batches(names(*range(20)), size=2), root=b"/data", shard_size=4, run_id="3")
            for ref in log.shards():
                put_shard(tree, log, ref)
        return begun(planned, *shard)

    monkeypatch.setattr(verify_plans.Planned, "versions", versions)
    assert check(tree, workers=1).findings == ()


def test_a_missing_plan_is_named_and_files_are_checked_all_the_same(tree):
    tree.plan_path(1).unlink()
    flip(file_of(tree))
    assert problems(tree) == [
        (Problem.DAMAGED_FILE, name_of(tree)),
        (Problem.DAMAGED_PLAN, "state/plans/000001.parquet"),
    ]


def test_a_lost_last_plan_leaves_files_that_no_plan_has(tree):
    tree.plan_path(2).unlink()
    assert {problem for problem, _ in problems(tree)} == {Problem.UNKNOWN_SHARD}


def test_flipped_bits_in_plans_are_found_or_change_nothing(tree):
    choose = random.Random(2)
    log = PlanLog(tree, tool_version="0")
    log.extend(batches(names(2, 9), size=5), root=b"/data", shard_size=4, run_id="run-3")
    assert len(list(tree.plans.iterdir())) == 3
    before = [log.read(shard).keys for shard in log.shards()]
    found = 0
    for path in sorted(tree.plans.iterdir()):
        content = path.read_bytes()
        for _ in range(30):
            flipped = bytearray(content)
            flipped[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
            path.write_bytes(flipped)
            if problems(tree):
                found += 1
            else:
                again = PlanLog(tree, tool_version="0")
                assert [again.read(shard).keys for shard in again.shards()] == before
        path.write_bytes(content)
    assert found > 30


def test_a_plan_with_other_images_than_its_header_says_is_found(tree):
    log = PlanLog(tree, tool_version="0")
    kept = tree.plan_path(1).read_bytes()
    header = pq.read_metadata(tree.plan_path(1)).metadata[b"nightshift.plan"]
    with (
        tree.plan_path(1).open("wb") as file,
        PlanWriter(file, root=b"/data", shard_size=4) as writer,
    ):
        for batch in batches(names(*range(1, 11))):
            writer.append(batch.to_table())
        writer._flush(writer._pending_rows)
        writer._writer.add_key_value_metadata({b"nightshift.plan": header})
    found = problems(tree)
    assert (Problem.DAMAGED_PLAN, "state/plans/000001.parquet") in found
    tree.plan_path(1).write_bytes(kept)
    assert log.read(next(log.shards())).keys == names(0, 2, 4, 6)


def test_an_image_in_two_plans_is_named(tmp_path):
    """Two logs that were merged by hand: each is right, and together they give images two rows."""
    tree = make_output(tmp_path / "a", [names(*range(10))])
    other = make_output(tmp_path / "b", [names(100), names(3, 7, 11)])
    shutil.copyfile(other.plan_path(2), tree.plan_path(2))
    found = check(tree).findings
    assert [f.problem for f in found] == [Problem.DUPLICATE_IMAGE] * 2
    assert "/data/00003.jpg stands in plan 1" in found[0].text
    assert found[0].path == str(tree.plan_path(2))


def test_a_damaged_record_of_columns_is_found(tree):
    tree.columns.write_text("{")
    assert problems(tree) == [(Problem.DAMAGED_RECORD, "state/columns.json")]


def test_records_of_runs_must_add_up(tree):
    assert check_runs(tree) == (2, [])
    put_record(tree, "run-3", images=5, errors=2)
    record = tree.run_path("run-3") / "run.json"
    text = record.read_text()
    for wrong in ({"ok": 4}, {"skipped": 1}, {"errors_by_kind": {}}, {"run_id": "run-1"}):
        record.write_text(json.dumps(json.loads(text) | wrong))
        assert [f.problem for f in check_runs(tree)[1]] == [Problem.WRONG_RECORD]
    for damaged in ("", "[]", text[:-20], '{"images": "many"}'):
        record.write_text(damaged)
        assert [f.problem for f in check_runs(tree)[1]] == [Problem.DAMAGED_RECORD]


def test_records_that_were_cleared_away_are_no_error(tree):
    shutil.rmtree(tree.runs)
    assert check_runs(tree) == (0, [])


def test_leftovers_are_counted_with_their_age(tree):
    assert leftovers(tree).files == 0
    path = tree.staging / "p000001-00000.abc.inprogress"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 0))
    found = leftovers(tree)
    assert (found.files, found.bytes) == (1, 5)
    assert found.oldest_seconds > 1e9


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
