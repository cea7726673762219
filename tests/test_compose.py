"""compose.yaml held against the rest of the repository, and its commands run, without Docker."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from flows.classify_dir import classify_dir
from flows.roots import VARIABLE
from flows.usage import checked
from tasks.settings import Settings
from tests.flows.conftest import clean_environment, processes_with, wait_for
from tests.simulators.object_server import object_server
from tests.test_dockerfile import one

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "compose.yaml").read_text()
VARIABLES = re.compile(r"\$\{(\w+):-([^}]*)\}")
ONCE = {"deploy", "s3-bucket"}
"""What does its work and ends."""


def compose(**variables: str) -> dict:
    """The file as Docker would understand it, with these variables set."""
    text = VARIABLES.sub(lambda found: variables.get(found[1], found[2]), TEXT)
    assert "${" not in text
    return yaml.safe_load(text)


SERVICES = compose()["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_our_own_stages_or_pinned(name):
    service = SERVICES[name]
    repository, _, tag = service["image"].rpartition(":")
    assert tag
    assert tag != "latest"
    if repository == "nightshift":
        assert service["build"] == {"context": ".", "target": tag}
        assert one(tag, "ENTRYPOINT")  # a stage of the Dockerfile
    else:
        assert "build" not in service
        assert re.search(r"\d{4}-\d\d-\d\d|\d+\.\d+", tag)


def test_nothing_is_reached_from_other_machines():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_the_file():
    secret = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|USER$")
    found = [
        value
        for service in SERVICES.values()
        for variable, value in service.get("environment", {}).items()
        if secret.search(variable)
    ]
    assert len(found) > 3
    assert set(found) == {None}


@pytest.mark.parametrize("name", SERVICES)
def test_what_goes_on_is_watched_and_restarted_and_the_rest_ends(name):
    service = SERVICES[name]
    assert service["restart"] == ("no" if name in ONCE else "unless-stopped")
    assert ("healthcheck" in service) is (name not in ONCE)
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]
        assert set(SERVICES[other].get("profiles", ())) <= set(service.get("profiles", ()))


def test_named_volumes_are_declared_and_belong_to_the_images_user():
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    named = {mount.split(":")[0] for mount in mounts if not mount.startswith((".", "/"))}
    assert named == compose()["volumes"].keys()
    for name in ("server", "worker"):
        [place] = [m.split(":")[1] for m in SERVICES[name]["volumes"] if not m.startswith(".")]
        assert place == one("gpu", "VOLUME") == one("cpu", "VOLUME")
    assert SERVICES["worker"]["user"] == one("gpu", "USER")


def test_the_workers_differ_in_nothing_but_the_gpu():
    gpu, cpu = dict(SERVICES["worker"]), dict(SERVICES["worker-cpu"])
    [device] = gpu.pop("deploy")["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    for worker in (gpu, cpu):
        del worker["image"], worker["build"]["target"]
    assert (gpu.pop("profiles"), cpu.pop("profiles")) == (["gpu"], ["cpu"])
    assert gpu == cpu


def parameters(**variables: str) -> dict[str, str]:
    """What the deployment's runs are asked to do."""
    deploy = compose(**variables)["services"]["deploy"]
    given = dict(re.findall(r'--param (\w+)="\$\$(\w+)"', deploy["command"][0]))
    return {name: deploy["environment"][variable] for name, variable in given.items()}


@pytest.mark.parametrize("output", ["/out", "/out/nightly", "s3://nightshift/out"])
@pytest.mark.parametrize("given", ["/images", "/images/new", "s3://photos/in"])
def test_what_the_nightly_run_names_is_allowed_and_mounted(given, output, monkeypatch):
    worker = compose(INPUT=given, OUTPUT=output)["services"]["worker"]
    monkeypatch.setenv(VARIABLE, worker["environment"][VARIABLE])
    asked = parameters(INPUT=given, OUTPUT=output)
    settings = checked(Settings, asked)
    assert settings.output == output
    mounted = [mount.split(":")[1] for mount in worker["volumes"]]
    for place in (asked["images"], asked["model"], output):
        assert "://" in place or any(f"{place}/".startswith(f"{mount}/") for mount in mounted)
    with pytest.raises(Exception, match="allowed root"):
        checked(Settings, asked | {"images": "/etc"})


def test_the_guide_names_every_variable_and_no_other():
    guide = (ROOT / "docs" / "docker.md").read_text()
    known = {name for name, _ in VARIABLES.findall(TEXT)}
    passed = {
        variable
        for service in SERVICES.values()
        for variable, value in service.get("environment", {}).items()
        if value is None
    }
    table = set(re.findall(r"^\| `([A-Z_0-9]+)` \|", guide, flags=re.MULTILINE))
    assert table == known
    assert all(f"`{variable}`" in guide or f"{variable}=" in guide for variable in passed)


def script(name: str) -> list[str]:
    """Entrypoint and command of a service, with this Python instead of the image's."""
    words = [*SERVICES[name]["entrypoint"], *SERVICES[name]["command"]]
    words[0] = sys.executable if words[0] == "python" else words[0]
    return [word.replace("$$", "$") for word in words]


def test_the_bucket_is_made_once(tmp_path):
    with object_server() as server:
        for _ in range(2):
            done = subprocess.run(
                script("s3-bucket"), env=os.environ | server.environment, timeout=60
            )
            assert done.returncode == 0
        made = [request for request in server.seen if request.method == "PUT"]
    assert [request.path for request in made] == ["/nightshift"]


def healthy(name: str, port: int, real: int, environment: dict[str, str]) -> bool:
    """Whether a healthcheck says so, asked at the port that the service has here."""
    kind, _, *words = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    assert f":{port}/" in words[-1]
    words[-1] = words[-1].replace(f":{port}/", f":{real}/")
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True)
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_commands_make_a_night_where_the_code_is_an_installed_package(tmp_path):
    """Server, deployment and worker as the file has them, in an empty directory."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    server_port, worker_port = ports
    place = tmp_path / "empty"
    place.mkdir()
    environment = clean_environment(tmp_path / "home") | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),  # as if it was installed
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{server_port}/api",
        "PREFECT_WORKER_WEBSERVER_PORT": str(worker_port),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "DO_NOT_TRACK": "1",
        **{name: str(value) for name, value in SERVICES["deploy"]["environment"].items()}
        | {
            "PREFECT_API_URL": f"http://127.0.0.1:{server_port}/api",
            "INPUT": str(ROOT / "examples/digits/images/one"),
            "MODEL": str(ROOT / "examples/digits/model"),
            "OUTPUT": str(tmp_path / "out"),
        },
        VARIABLE: f"{ROOT}/examples:{tmp_path}",
    }
    log = (tmp_path / "log").open("wb")

    def start(words: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            words, cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def run(words: list[str]) -> None:
        done = subprocess.run(
            words, cwd=place, env=environment, timeout=200, stdout=log, stderr=log
        )
        assert done.returncode == 0, (tmp_path / "log").read_text()

    server = [str(server_port) if word == "4200" else word for word in script("server")]
    processes = [start(server)]
    try:
        wait_for(lambda: healthy("server", 4200, server_port, environment), timeout_s=150)
        run(script("deploy"))
        run(script("deploy"))  # again, as after a change
        assert not healthy("worker", 8080, worker_port, environment)
        processes.append(start(script("worker")))
        wait_for(lambda: healthy("worker", 8080, worker_port, environment), timeout_s=90)
        watch = ("--watch", "--watch-interval", "1", "--watch-timeout", "150")
        run(["prefect", "deployment", "run", f"{classify_dir.name}/nightly", *watch])
    finally:
        while left := processes_with(str(tmp_path / "prefect")):
            for pid in left:
                os.kill(pid, 9)
            for process in processes:
                process.wait()
        log.close()
    files = list((tmp_path / "out/predictions").rglob("*.parquet"))
    images = list((ROOT / "examples/digits/images/one").iterdir())
    assert sum(pq.read_metadata(file).num_rows for file in files) == len(images) > 0
