"""The command under Prefect's temporary server, in real processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time

import pytest

from tests.flows.conftest import processes_with, wait_for

pytestmark = pytest.mark.slow

LONG = {"seconds": 120}


def recorded(command) -> dict[str, object]:
    """The newest flow run in the temporary server's database."""
    with sqlite3.connect(command.out / "state" / "prefect" / "prefect.db") as database:
        run, state, message = database.execute(
            "SELECT flow_run.id, flow_run.state_type, flow_run_state.message FROM flow_run "
            "JOIN flow_run_state ON flow_run_state.id = flow_run.state_id "
            "ORDER BY flow_run.created DESC LIMIT 1"
        ).fetchone()
        tasks = database.execute(
            "SELECT name, state_type FROM task_run WHERE flow_run_id = ?", (run,)
        ).fetchall()
        artifacts = database.execute(
            "SELECT key FROM artifact WHERE flow_run_id = ?", (run,)
        ).fetchall()
        logs = database.execute("SELECT message FROM log WHERE flow_run_id = ?", (run,)).fetchall()
    database.close()
    return {
        "state": state,
        "message": message,
        "tasks": {name.partition("-")[0]: state for name, state in tasks},
        "artifacts": {key for (key,) in artifacts},
        "logs": {message for (message,) in logs},
    }


def server_of(process) -> list[int]:
    return processes_with(f"server_process.py\0{process.pid}\0")


def test_a_run_is_recorded_and_leaves_the_home_alone(prefect_command):
    done = prefect_command.run("--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 100
    record = recorded(prefect_command)
    assert record["state"] == "COMPLETED"
    assert record["tasks"] == {"plan": "COMPLETED", "classify": "COMPLETED", "finish": "COMPLETED"}
    assert record["artifacts"] == {"nightshift-progress", "nightshift-summary"}
    assert "planned" in record["logs"]
    assert list(prefect_command.home.iterdir()) == []
    assert processes_with(str(prefect_command.out)) == []
    lines = [line[9:] for line in done.stderr.splitlines()]
    assert lines[0] == "starting Prefect's temporary server (--direct classifies without one)"
    assert lines[1].startswith("Prefect's temporary server took ")
    assert lines[2:] == ["planned"]


def test_an_error_that_passes_is_tried_again_and_too_many_errors_fail_the_flow(prefect_command):
    (prefect_command.out / "classify").unlink(missing_ok=True)
    fake = {"raises": {"classify": "transient"}, "times": 1, "exit_code": 3}

    done = prefect_command.run(fake=fake)

    assert done.returncode == 3, done.stderr
    assert done.stdout == "100 images\nstatus failed\n"
    assert "Traceback" not in done.stderr
    record = recorded(prefect_command)
    assert (record["state"], record["message"]) == ("FAILED", "100 images status failed")
    assert record["tasks"]["classify"] == "COMPLETED"


def test_an_error_that_the_user_has_to_mend_is_told_once(prefect_command):
    done = prefect_command.run(fake={"raises": {"plan": "empty"}})

    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "error: no image found in photos"
    assert "Traceback" not in done.stderr
    record = recorded(prefect_command)
    assert (record["state"], record["message"]) == ("FAILED", "no image found in photos")


def test_a_mistake_is_told_before_a_server_is_started(command):
    done = command.run(fake={"raises": {"prepare": "refused"}})

    assert done.returncode == 2
    assert done.stderr == "error: no such model: resnet\n"
    assert not (command.out / "state").exists()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_ends_in_order(prefect_command, signum, code):
    process = prefect_command.start(fake=LONG)
    prefect_command.wait_for_step(process, "classify")
    (server,) = server_of(process)
    started = time.monotonic()
    os.killpg(process.pid, signum)
    stdout, stderr = process.communicate(timeout=60)

    assert process.returncode == code
    assert time.monotonic() - started < 20
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith(f"stopped by {signum.name}")
    assert "Traceback" not in stderr
    assert server not in processes_with(str(prefect_command.out))
    assert recorded(prefect_command)["state"] == "CRASHED"


def test_no_server_is_left_when_the_command_is_killed(prefect_command):
    process = prefect_command.start(fake=LONG)
    prefect_command.wait_for_step(process, "classify")
    (server,) = server_of(process)
    process.kill()
    process.communicate(timeout=60)

    wait_for(lambda: server not in processes_with("server_process.py"), timeout_s=10)


def test_the_images_are_done_although_the_server_dies(prefect_command):
    process = prefect_command.start("--json", fake={"seconds": 3})
    prefect_command.wait_for_step(process, "classify")
    os.kill(server_of(process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)

    assert process.returncode == 0, stderr
    assert json.loads(stdout)["status"] == "done"
    assert "the run is complete, but Prefect's record of it is not" in stderr
    assert "Traceback" not in stderr


def test_an_api_that_cannot_be_reached_is_named(command):
    command.environment["PREFECT_API_URL"] = "http://127.0.0.1:9/api"
    command.environment["PREFECT_CLIENT_MAX_RETRIES"] = "0"

    done = command.run()

    assert done.returncode == 1
    assert "the Prefect API at http://127.0.0.1:9/api (PREFECT_API_URL) cannot be" in done.stderr
    assert "--direct" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_profile_in_the_home_is_respected(command):
    profiles = command.home / ".prefect" / "profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text(
        'active = "ours"\n[profiles.ours]\nPREFECT_API_URL = "http://127.0.0.1:9/api"\n'
    )
    command.environment["PREFECT_CLIENT_MAX_RETRIES"] = "0"

    done = command.run()

    assert done.returncode == 1
    assert "the Prefect API at http://127.0.0.1:9/api" in done.stderr
    assert not (command.out / "state" / "prefect" / "prefect.db").exists()
