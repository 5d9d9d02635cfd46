"""The deploy kit: held to the schemas of those who read it, and to what a server really has."""

import copy
import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import promql_parser
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from bnpipe.serving.deploy.render import KINDS, next_step, render, write
from bnpipe.serving.deploy.settings import Deployment
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.model_config import ModelConfig
from bnpipe.serving.folder.server_files import ServerFiles
from tests.child import environment

KUBERNETES = "1.30"
DEPLOYMENT = Deployment(
    models=ModelConfig("mnist", "/srv/served/mnist", (2, 3), {"stable": 2, "canary": 3}),
    image="tensorflow/serving:2.21.0",
    host="127.0.0.1",
    rest_port=8601,
    grpc_port=8600,
    replicas=2,
    max_replicas=5,
    cpus=3,
    memory_mb=1500,
    volume_mb=2000,
    storage_uri=None,
    max_error_ratio=0.02,
    max_p99_ms=40.0,
    nginx_image="nginx:1.28.0",
    canary_share=0.1,
    shadow=False,
    traffic_log="/srv/traffic",
    gateway="edge",
    files=ServerFiles(prometheus_path="/its/metrics"),
)
# What tensorflow_model_server exports, as far as it is read here; `up` is Prometheus' own.
METRICS = {
    "up": {"job"},
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:serving:request_latency_bucket": {"model_name", "API", "entrypoint", "le"},
    ":tensorflow:serving:request_latency_count": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency_bucket": {"model_name", "API", "runtime", "le"},
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status", "job"},
    ":tensorflow:serving:model_warmup_latency_count": {"model_path", "status", "job"},
    "bnpipe_served_version": {"model"},  # of the file that notify.prometheus_file names
}
FLAGS = {
    "port",
    "rest_api_port",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "file_system_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "monitoring_config_file",
    "enable_batching",
    "batching_parameters_file",
    "enable_profiler",
    "rest_api_timeout_in_ms",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
}


def changed(**values: Any) -> Deployment:
    return dataclasses.replace(DEPLOYMENT, **values)


def moved(base_path: str, name: str = "mnist") -> Deployment:
    return changed(models=ModelConfig(name, base_path, (2,), {"stable": 2}))


def documents(kind: str, deployment: Deployment = DEPLOYMENT) -> dict[str, Any]:
    """Every YAML document by file and kind."""
    return {
        f"{path} {document.get('kind', '')} {index}".strip(): document
        for path, text in render(kind, deployment).items()
        for index, document in enumerate(yaml.safe_load_all(text))
    }


def resource(kind: str, deployment: Deployment = DEPLOYMENT) -> Any:
    (found,) = (d for d in documents("kubernetes", deployment).values() if d["kind"] == kind)
    return found


def compose(deployment: Deployment = DEPLOYMENT) -> Any:
    return yaml.safe_load(render("compose", deployment)["compose.yaml"])


def validate_compose(value: Any) -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    jsonschema.validators.validator_for(schema)(schema).validate(value)


def validate_kubernetes(value: Any) -> None:
    kubernetes_validate.validate(value, KUBERNETES, strict=True)


def expressions() -> list[str]:
    rules = yaml.safe_load(render("monitoring", DEPLOYMENT)["monitoring/rules.yaml"])
    dashboard = json.loads(render("monitoring", DEPLOYMENT)["monitoring/dashboard.json"])
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return found + [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]


def selectors(expression: Any) -> list[Any]:
    """Every vector that an expression reads."""
    if isinstance(expression, promql_parser.VectorSelector):
        return [expression]
    parts = [
        getattr(expression, name)
        for name in ("lhs", "rhs", "expr", "args", "vector_selector")
        if getattr(expression, name, None) is not None
    ]
    flat = [p for part in parts for p in (part if isinstance(part, list) else [part])]
    return [found for part in flat for found in selectors(part)]


# compose


def test_compose_is_what_the_specification_says():
    validate_compose(compose())


@pytest.mark.parametrize(
    ("key", "value"), [("imagee", "x"), ("ports", 8501), ("healthcheck", {"test": 5})]
)
def test_a_wrong_compose_file_is_noticed(key, value):
    broken = compose()
    broken["services"]["serving"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        validate_compose(broken)


def test_a_compose_server_is_confined_and_on_loopback_only():
    service, nginx = (compose()["services"][name] for name in ("serving", "nginx"))
    assert {p["host_ip"] for p in nginx["ports"]} == {"127.0.0.1"}
    assert [(p["target"], p["published"]) for p in nginx["ports"]] == [
        (8601, "8601"),
        (8600, "8600"),
    ]
    assert "ports" not in service
    for confined in (service, nginx):
        assert confined["read_only"] and confined["user"] == "1000:1000"
        assert confined["cap_drop"] == ["ALL"]
        assert confined["security_opt"] == ["no-new-privileges:true"]
    assert (service["cpus"], service["mem_limit"]) == (3, "1500m")
    (volume,) = service["volumes"]
    assert volume["read_only"] and volume["source"] == volume["target"] == "/srv/served/mnist"
    assert "--model_config_file=/srv/served/mnist/models.config" in service["command"]


def test_the_nginx_of_compose_reads_the_configuration_and_writes_the_log():
    value = compose(changed(traffic_log="/srv/$a b", nginx_image="nginx:1.29.1"))
    nginx = value["services"]["nginx"]
    assert nginx["image"] == "nginx:1.29.1"
    assert nginx["entrypoint"][-1] == "/etc/nginx/nginx.conf"
    configuration, log = nginx["volumes"]
    assert (configuration["source"], configuration["read_only"]) == ("./nginx.conf", True)
    assert "nginx.conf" in KINDS["compose"]
    assert (log["source"], log["target"]) == ("/srv/$$a b", "/traffic")
    assert nginx["depends_on"]["serving"]["condition"] == "service_healthy"


@pytest.mark.parametrize(
    "name", ["with blank", 'a"b', "a'b", "a:b#c", "$HOME", "é😀", "{{ x }}", "%s"]
)
def test_odd_characters_in_paths_stay_what_they_are(name):
    base = f"/srv/{name}/mnist"
    value = compose(moved(base))
    validate_compose(value)
    service = value["services"]["serving"]
    unescaped = [
        text.replace("$$", "$") for text in (service["volumes"][0]["source"], *service["command"])
    ]
    assert unescaped[0] == base
    assert f"--model_config_file={base}/models.config" in unescaped
    (line,) = (
        text
        for text in render("runbook", moved(base))["runbook.md"].splitlines()
        if "kubectl cp" in text
    )
    script = f'VERSION=2; set -- {line}; printf %s "$3"'
    shown = subprocess.check_output(["bash", "-c", script], env=environment(), text=True)
    assert shown == f"{base}/2"


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"image": "tensorflow/serving:latest"}, "deploy.image: expected a tag that always means"),
        ({"image": "tensorflow/serving"}, "deploy.image: expected NAME:TAG"),
        ({"image": "localhost:5000/serving"}, "deploy.image: expected NAME:TAG"),
        ({"nginx_image": "nginx:latest"}, "deploy.nginx_image: expected a tag that always means"),
        ({"nginx_image": "nginx"}, "deploy.nginx_image: expected NAME:TAG"),
        ({"traffic_log": "/srv/a\nb"}, "deploy.traffic_log: expected a path"),
        ({"canary_share": 0.00004}, "deploy.canary_share: expected 0 or at least 0.0001"),
        ({"image": "x:1\n    privileged: true"}, "deploy.image: expected NAME:TAG"),
        ({"host": "example.org"}, "deploy.host: expected an IP address"),
        ({"rest_port": 8600}, "the same port, 8600"),
        ({"replicas": 6}, r"deploy.replicas: expected at most deploy.max_replicas \(5\)"),
        ({"models": ModelConfig("../x", "/srv", (1,))}, "model name: expected"),
        ({"models": ModelConfig("a" * 60, "/srv", (1,))}, "expected at most 50 characters"),
        ({"models": ModelConfig("mnist", "/srv/a\nb", (1,))}, "served folder: expected a path"),
        ({"models": ModelConfig("mnist", "/srv/\udcff", (1,))}, "served folder: expected a path"),
    ],
)
def test_what_no_server_should_be_started_with_is_refused(values, error):
    with pytest.raises(ServingError, match=error):
        changed(**values)


@pytest.mark.parametrize(
    "image", ["registry.local:5000/serving:2.21.0", f"tensorflow/serving@sha256:{'0' * 64}"]
)
def test_other_pinned_images(image):
    assert compose(changed(image=image))["services"]["serving"]["image"] == image


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("10.1.2.3", "10.1.2.3"), ("::1", "[::1]"), ("::", "[::1]")],
)
def test_other_addresses_are_where_clients_find_them(host, shown):
    value = compose(changed(host=host))
    validate_compose(value)
    assert {p["host_ip"] for p in value["services"]["nginx"]["ports"]} == {host}
    files = render("monitoring", changed(host=host)) | render("runbook", changed(host=host))
    assert f'targets: ["{shown}:8601"]' in files["monitoring/prometheus.yaml"]
    assert f"--url http://{shown}:8601 " in files["runbook.md"]


# Kubernetes


def test_kubernetes_files_are_what_the_cluster_takes():
    kinds = []
    for name, document in documents("kubernetes").items():
        if not name.startswith("kubernetes/kustomization"):
            validate_kubernetes(document)
        kinds.append(document["kind"])
    assert set(kinds) >= {
        "Deployment",
        "Service",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "ConfigMap",
    }


def break_container(deployment: Any) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}


def break_port(deployment: Any) -> None:
    deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "rest"


def break_selector(deployment: Any) -> None:
    del deployment["spec"]["selector"]


@pytest.mark.parametrize("breaking", [break_container, break_port, break_selector])
def test_a_wrong_kubernetes_file_is_noticed(breaking):
    deployment = copy.deepcopy(resource("Deployment"))
    breaking(deployment)
    with pytest.raises(kubernetes_validate.ValidationError):
        validate_kubernetes(deployment)


def test_every_pod_is_confined():
    for kind in ("Deployment", "Pod"):
        found = resource(kind)
        pod = found["spec"]["template"]["spec"] if kind == "Deployment" else found["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        assert container["image"] == "tensorflow/serving:2.21.0"
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}


def test_probes_ask_what_only_a_loaded_model_answers():
    (container,) = resource("Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {"path": "/v1/models/mnist/metadata", "port": "rest"}
    assert container["startupProbe"]["httpGet"] == container["readinessProbe"]["httpGet"] == asked
    budget = (
        container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    )
    assert budget == 300
    assert container["livenessProbe"]["tcpSocket"] == {"port": "grpc"}
    assert {p["name"]: p["containerPort"] for p in container["ports"]} == {
        "rest": 8601,
        "grpc": 8600,
    }


def test_only_flags_that_the_server_has():
    """It prints its usage for an unknown one and goes on without."""
    (container,) = resource("Deployment")["spec"]["template"]["spec"]["containers"]
    model = documents("kserve")["kserve/inferenceservice.yaml InferenceService 0"]
    args = model["spec"]["predictor"]["model"]["args"]
    for flags in (container["args"], compose()["services"]["serving"]["command"], args):
        names = [re.fullmatch(r"--([a-z_]+)=.+", flag)[1] for flag in flags]
        assert len(set(names)) == len(names)
        assert set(names) <= FLAGS
    assert "--allow_version_labels_for_unavailable_models=true" in container["args"]
    assert "--tensorflow_intra_op_parallelism=3" in container["args"]
    assert not any("batching" in flag for flag in container["args"])
    (batching,) = resource("Deployment", changed(batching=True))["spec"]["template"]["spec"][
        "containers"
    ]
    assert set(batching["args"]) - set(container["args"]) == {
        "--enable_batching=true",
        "--batching_parameters_file=/config/batching.config",
    }


def test_everything_in_the_cluster_finds_everything_else():
    found = documents("kubernetes").values()
    labels = {"app.kubernetes.io/name": "mnist"}
    deployment = resource("Deployment")
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= labels.items()
    for document in found:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            assert spec["selector"] == labels
        if document["kind"] in ("Deployment", "PodDisruptionBudget"):
            assert spec["selector"]["matchLabels"] == labels
    assert resource("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    target = resource("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    claim = resource("PersistentVolumeClaim")["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert volumes["config"]["configMap"]["name"] == resource("ConfigMap")["metadata"]["name"]
    listed = set(resource("Kustomization")["resources"])
    written = {Path(name).name for name in KINDS["kubernetes"]}
    assert listed == written - {"kustomization.yaml", "volume.yaml", "writer.yaml"}


def test_the_server_reads_the_configuration_in_the_configmap(tmp_path):
    from bnpipe.serving.local import config

    data = resource("ConfigMap")["data"]
    (tmp_path / "models.config").write_text(data["models.config"])
    (entry,) = config.read(tmp_path / "models.config")
    assert (entry.name, entry.base_path) == ("mnist", "/models/mnist")
    assert entry.specific == {2, 3}
    assert entry.labels == {"stable": 2, "canary": 3, "in_force_2_3_stable_2_canary_3": 2}
    assert data["monitoring.config"] == DEPLOYMENT.files.monitoring()
    assert data["batching.config"] == DEPLOYMENT.files.batching()


def test_names_with_underscores_are_names_of_kubernetes():
    for document in documents("kubernetes", moved("/srv", "fashion_mnist_")).values():
        if document["kind"] != "Kustomization":
            validate_kubernetes(document)
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubectl_reads_the_kustomization(tmp_path):
    write(tmp_path, render("kubernetes", DEPLOYMENT))
    built = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "kubernetes")],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    kinds = [document["kind"] for document in yaml.safe_load_all(built.stdout)]
    assert sorted(kinds) == sorted(
        document["kind"]
        for document in documents("kubernetes").values()
        if document["kind"] not in ("Kustomization", "PersistentVolumeClaim", "Pod")
    )


# Gateway


def strict(schema: Any) -> Any:
    """A schema that has no room for what it does not name; a cluster drops that in silence."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return closed | {key: strict(value) for key, value in schema.items()}


HTTP_ROUTE = strict(json.loads(Path(__file__).with_name("httproute.schema.json").read_text()))
HTTP_ROUTE["properties"]["metadata"] = {"type": "object"}


def route(**values: Any) -> Any:
    (document,) = documents("gateway", changed(**values)).values()
    jsonschema.Draft202012Validator(HTTP_ROUTE).validate(document)
    return document


def backends(rule: Any) -> dict[str, int]:
    """The weight of each path that a rule's requests get."""
    return {
        b["filters"][0]["urlRewrite"]["path"]["replaceFullPath"]: b["weight"]
        for b in rule["backendRefs"]
    }


def test_a_gateway_sends_the_canary_its_share():
    document = route(canary_share=0.125)
    assert document["spec"]["parentRefs"] == [{"name": "edge"}]
    *asked, rest = document["spec"]["rules"]
    verbs = []
    for rule in asked:
        (match,) = rule["matches"]
        path, verb = match["path"]["value"].rsplit(":", 1)
        verbs.append(verb)
        assert (match["method"], match["path"]["type"], path) == (
            "POST",
            "Exact",
            "/v1/models/mnist",
        )
        assert backends(rule) == {
            f"/v1/models/mnist/labels/stable:{verb}": 8750,
            f"/v1/models/mnist/labels/canary:{verb}": 1250,
        }
        assert "filters" not in rule
    assert verbs == ["predict", "classify", "regress"]
    assert rest == {"backendRefs": [{"name": "mnist", "port": 8601}]}


def test_a_gateway_sends_nothing_to_a_canary_that_is_not_there():
    for shadow in (False, True):
        *asked, _ = route(shadow=shadow, models=ModelConfig("mnist", "/srv", (2,), {"stable": 2}))[
            "spec"
        ]["rules"]
        for rule in asked:
            assert list(backends(rule).values()) == [10000] and "filters" not in rule


def test_a_gateway_in_shadow():
    *asked, _ = route(shadow=True)["spec"]["rules"]
    for rule in asked:
        (path,) = backends(rule)
        assert "/labels/stable:" in path
        mirror = {"type": "RequestMirror"}
        mirror["requestMirror"] = {"backendRef": {"name": "mnist", "port": 8601}}
        assert rule["filters"] == [mirror]


@pytest.mark.parametrize("place", ["spec", "rules", "backendRefs", "path"])
def test_a_wrong_route_is_noticed(place):
    document = route()
    spec = document["spec"]
    rule = spec["rules"][0]
    backend = rule["backendRefs"][0]
    match place:
        case "spec":
            spec["parentRef"] = []
        case "rules":
            rule["backendRef"] = []
        case "backendRefs":
            backend["weight"] = "90"
        case "path":
            backend["filters"][0]["urlRewrite"]["path"]["type"] = "Replace"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(HTTP_ROUTE).validate(document)


# KServe: no package carries the schema of its resource, whose `model` is a container and more.


def test_kserve_serves_the_folder_with_the_pinned_version():
    (service,) = documents("kserve").values()
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["runtimeVersion"] == "2.21.0"
    assert model["storageUri"] == "pvc://mnist-models/mnist"
    own = {"modelFormat", "runtimeVersion", "protocolVersion", "storageUri"}
    container = {key: value for key, value in model.items() if key not in own}
    scaling = {"model", "minReplicas", "maxReplicas", "timeout"}
    pod = {key: value for key, value in predictor.items() if key not in scaling}
    spec = {**pod, "containers": [{"name": "model", **container}]}
    validate_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec})


def test_kserve_needs_a_version_and_takes_another_source():
    with pytest.raises(ServingError, match="KServe takes a version"):
        render("kserve", changed(image=f"tensorflow/serving@sha256:{'0' * 64}"))
    (service,) = documents("kserve", changed(storage_uri="s3://models/mnist")).values()
    assert service["spec"]["predictor"]["model"]["storageUri"] == "s3://models/mnist"


# Prometheus and Grafana


def test_queries_read_only_metrics_that_a_server_has():
    for text in expressions():
        vectors = selectors(promql_parser.parse(text))
        assert vectors
        for vector in vectors:
            labels = {matcher.name for matcher in vector.matchers.matchers}
            assert labels <= METRICS[vector.name], text


def test_a_wrong_query_is_noticed():
    with pytest.raises(ValueError):
        promql_parser.parse("sum(rate(x[5m])")


def test_alerts():
    files = render("monitoring", DEPLOYMENT)
    (group,) = yaml.safe_load(files["monitoring/rules.yaml"])["groups"]
    rules = {rule["alert"]: rule for rule in group["rules"]}
    assert rules.keys() >= {"ServingNoReadyReplica", "ServingErrorRatio", "ServingLatency"}
    for rule in rules.values():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert re.fullmatch(r"\d+m", rule.get("for", "0m"))
    assert rules["ServingErrorRatio"]["expr"].endswith(" > 0.02")
    assert rules["ServingLatency"]["expr"].endswith(" / 1000 > 40.0")


def test_what_is_scraped_has_the_name_that_the_rules_ask_for():
    files = render("monitoring", DEPLOYMENT)
    (local,) = yaml.safe_load(files["monitoring/prometheus.yaml"])["scrape_configs"]
    (cluster,) = yaml.safe_load(files["monitoring/scrape_kubernetes.yaml"])["scrape_configs"]
    assert local["job_name"] == cluster["job_name"] == "mnist"
    assert any('up{job="mnist"}' in text for text in expressions())
    assert local["static_configs"] == [{"targets": ["127.0.0.1:8601"]}]
    assert local["metrics_path"] == cluster["metrics_path"] == "/its/metrics"


def test_the_dashboard_is_whole():
    board = json.loads(render("monitoring", DEPLOYMENT)["monitoring/dashboard.json"])
    (variable,) = board["templating"]["list"]
    places = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == f"${{{variable['name']}}}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        places.add((panel["gridPos"]["x"], panel["gridPos"]["y"]))
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
    assert len(places) == len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


# Labels move in two steps


def models(versions: tuple[int, ...], **labels: int) -> ModelConfig:
    return ModelConfig("mnist", "/srv/served/mnist", versions, labels)


def written(folder: Path, told: ModelConfig) -> None:
    write(folder, render("kubernetes", DEPLOYMENT, told))


def test_the_first_files_say_all_at_once(tmp_path):
    wanted = models((1, 2), stable=2)
    assert next_step(tmp_path, wanted) == wanted


def test_a_label_moves_after_its_version_was_listed(tmp_path):
    written(tmp_path, models((1,), stable=1))
    wanted = models((1, 2), stable=2)
    first = next_step(tmp_path, wanted)
    assert (first.versions, first.labels) == ((1, 2), {"stable": 1})
    written(tmp_path, first)
    assert next_step(tmp_path, wanted) == wanted


def test_a_version_keeps_its_label_until_the_label_moves(tmp_path):
    """Even if it is no longer to be listed in the end."""
    written(tmp_path, models((1,), stable=1))
    first = next_step(tmp_path, models((7, 8), stable=8, canary=7))
    assert (first.versions, first.labels) == ((1, 7, 8), {"stable": 1, "canary": 7})


@pytest.mark.parametrize(
    "wanted",
    [models((1, 2), stable=1), models((1, 2), stable=2), models((1, 2, 3), stable=2, canary=3)],
    ids=["rollback", "nothing new", "a new label"],
)
def test_what_a_server_takes_at_once(tmp_path, wanted):
    written(tmp_path, models((1, 2), stable=2))
    assert next_step(tmp_path, wanted) == wanted


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="cannot write to"):
        write(tmp_path / "file", render("compose", DEPLOYMENT))
