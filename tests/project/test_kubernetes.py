"""What `deploy/kubernetes` holds is valid, confined, and what image, compose and code say."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from support import REPOSITORY

from jobs.cli.group import main
from jobs.ledger.messages import queue_names
from jobs.settings import Settings, variable_of

DEPLOY = REPOSITORY / "deploy" / "kubernetes"
FOLDERS = ["cpu", "gpu", "s3", "keda", "submit"]
OLDEST, NEWEST = "1.31", kubernetes_validate.latest_version()
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
Manifest = dict[str, Any]


@cache
def rendered(folder: str) -> list[Manifest]:
    """What would be applied of a folder."""
    tool = shutil.which("kustomize") or shutil.which("kubectl")
    if tool is None:
        pytest.skip("neither kustomize nor kubectl is here to render it")
    verb = "build" if tool.endswith("kustomize") else "kustomize"
    command = [tool, verb, str(DEPLOY / folder)]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(yaml.safe_load_all(made))


def written() -> list[Manifest]:
    """All manifests as they lie there, before any is changed."""
    files = sorted(p for p in DEPLOY.rglob("*.yaml") if p.name != "kustomization.yaml")
    return [m for path in files for m in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def one(kind: str, name: str, manifests: list[Manifest] | None = None) -> Manifest:
    found = [
        m for m in manifests or written() if (m["kind"], m["metadata"]["name"]) == (kind, name)
    ]
    assert len(found) == 1, (kind, name)
    return found[0]


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in manifests
            if "template" in m.get("spec", {})}  # fmt: skip


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def environment(container: Manifest) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container.get("env", [])}


# --- valid


def closed(properties: Manifest, *required: str) -> Manifest:
    return {"type": "object", "properties": properties, "required": list(required),
            "additionalProperties": False}  # fmt: skip


TEXT, WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}
WHERE = ("address", "listName")
KEDA = {
    "TriggerAuthentication": closed(
        {
            "secretTargetRef": {
                "type": "array",
                "items": closed(dict.fromkeys(("parameter", "name", "key"), TEXT), "parameter"),
            }
        },
        "secretTargetRef",
    ),
    "ScaledObject": closed(
        {
            "scaleTargetRef": closed({"name": TEXT}, "name"),
            **dict.fromkeys(("minReplicaCount", "maxReplicaCount"), WHOLE),
            **dict.fromkeys(("pollingInterval", "cooldownPeriod"), WHOLE),
            "advanced": closed(
                {
                    "scalingModifiers": closed(
                        dict.fromkeys(("formula", "target", "metricType"), TEXT),
                        "formula",
                        "target",
                    ),
                    "horizontalPodAutoscalerConfig": closed({"behavior": {"type": "object"}}),
                }
            ),
            "triggers": {
                "type": "array",
                "items": closed(
                    {
                        "type": {"const": "redis"},
                        "name": TEXT,
                        "metadata": closed(
                            dict.fromkeys(
                                ("address", "databaseIndex", "listName", "listLength"), TEXT
                            ),
                            *("address", "listName"),
                        ),
                        "authenticationRef": closed({"name": TEXT}, "name"),
                    },
                    *("type", "metadata"),
                ),
            },
        },
        *("scaleTargetRef", "triggers"),
    ),
}
"""The part of KEDA's documented fields that is used here: its own schemas come with no package."""


def test_every_manifest_is_valid_in_the_oldest_and_the_newest_kubernetes() -> None:
    # Each of them once: reading the schemas takes long, and folders have most in common.
    for manifest in {str(m): m for folder in FOLDERS for m in rendered(folder)}.values():
        if manifest["apiVersion"] == "keda.sh/v1alpha1":
            Draft202012Validator(KEDA[manifest["kind"]]).validate(manifest["spec"])
        else:
            for version in (OLDEST, NEWEST):
                kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_not_known_would_be_seen() -> None:
    service = one("Service", "redis")
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, NEWEST, strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_pod_mounts_or_reads_is_there(folder: str) -> None:
    manifests = rendered(folder)
    claims = {m["metadata"]["name"] for m in [*rendered("cpu"), *manifests]
              if m["kind"] == "PersistentVolumeClaim"}  # fmt: skip
    for pod in pods(manifests).values():
        volumes = {v["name"]: v for v in pod.get("volumes", [])}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {"claimName": "data"})["claimName"] in claims
        for container in containers(pod):
            mounted = {m["name"] for m in container["volumeMounts"]}
            assert mounted <= {*volumes, "data"}
            settings = [e["configMapRef"]["name"] for e in container.get("envFrom", [])
                        if "configMapRef" in e]  # fmt: skip
            assert set(settings) <= {"mtl-settings"}


# --- confined


@pytest.mark.parametrize("folder", ["cpu", "gpu", "s3", "submit"])
def test_no_pod_is_root_or_can_become_it_or_use_more_than_it_was_given(folder: str) -> None:
    found = pods(rendered(folder))
    assert found
    for pod in found.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            context, resources = container["securityContext"], container["resources"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(resources["limits"])
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert re.search(r":(?!latest$)[\w.-]+$", container["image"])


def test_whatever_runs_on_is_asked_for_its_health() -> None:
    running = {name: pod for name, pod in pods(written()).items() if name != "mtl-submit"}
    assert set(running) == {"redis", "worker", "trainer"}
    for pod in running.values():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert pod["containers"][0][probe]["exec"]["command"]


def test_no_secret_is_written_down() -> None:
    assert not [m for m in written() if m["kind"] == "Secret"]
    for pod in pods(written()).values():
        for container in containers(pod):
            for variable in container.get("env", []):
                if re.search("PASSWORD|AUTH|SECRET|KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"]
            assert "redis://:$(REDIS_PASSWORD)@" in environment(container).get(
                "MTL_REDIS_URL", "redis://:$(REDIS_PASSWORD)@"
            )


# --- as the rest


def ours() -> Iterator[tuple[str, Manifest, Manifest]]:
    for name, pod in pods(written()).items():
        if name != "redis":
            yield name, pod, pod["containers"][0]


def test_every_setting_is_one_and_has_a_value_it_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {variable_of(name): name for name in Settings.model_fields}
    shared = one("ConfigMap", "mtl-settings")["data"]
    stored = one("ConfigMap", "mtl-settings", rendered("s3"))["data"]
    for given in [shared, stored, *(environment(container) for *_, container in ours())]:
        for variable in (v for v in given if v.startswith("MTL_")):
            assert variable in known
            monkeypatch.setenv(variable, given[variable])
        Settings()


def test_every_command_line_is_one_of_the_program() -> None:
    for _, _, container in ours():
        arguments = list(container["args"])
        with main.make_context("mtl", arguments) as outer:
            name, command, rest = main.resolve_command(outer, arguments)
            assert command is not None
            command.make_context(name, rest, parent=outer).close()


def test_pods_are_as_the_image() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    check = re.search(r"^HEALTHCHECK .*CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    writable = re.search(r"^VOLUME (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert user
    assert check
    assert writable
    for name, pod, container in ours():
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == tuple(map(int, user.groups()))
        paths = [m["mountPath"] for m in container["volumeMounts"]]
        assert paths == [*yaml.safe_load(writable.group(1)), "/tmp"]
        if name != "mtl-submit":
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["exec"]["command"] == yaml.safe_load(check.group(1))


@pytest.mark.parametrize("name", ["worker", "trainer"])
def test_a_worker_is_as_in_compose(name: str) -> None:
    pod = pods(written())[name]
    service, container = COMPOSE["services"][name], pod["containers"][0]
    settings = one("ConfigMap", "mtl-settings")["data"]
    assert container["args"] == service["command"]
    assert f"{pod['terminationGracePeriodSeconds']}s" == service["stop_grace_period"]
    assert container["image"] == service["image"]
    assert settings["MTL_METRICS_PORT"] == service["environment"]["MTL_METRICS_PORT"]
    assert container["ports"][0]["containerPort"] == int(settings["MTL_METRICS_PORT"])
    memory = service["deploy"]["resources"]["limits"]["memory"]
    assert f":-{container['resources']['limits']['memory'].removesuffix('Gi')}g" in memory
    assert settings["MTL_ROOTS"] in service["environment"]["MTL_ROOTS"]


def test_redis_is_as_in_compose() -> None:
    service = COMPOSE["services"]["redis"]
    container = pods(written())["redis"]["containers"][0]
    default = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", "\n".join(service["command"]))
    assert container["args"] == default.replace("${MTL_REDIS_PASSWORD}", "$(REDISCLI_AUTH)").split(
        "\n"
    )
    assert container["image"] == service["image"]
    assert container["readinessProbe"]["exec"]["command"][-1] == service["healthcheck"]["test"][-1]
    port = one("Service", "redis")["spec"]["ports"][0]["port"]
    for _, _, ours_ in ours():
        assert f"@redis:{port}/0" in environment(ours_)["MTL_REDIS_URL"]


def test_workers_scale_by_all_queues_that_they_serve() -> None:
    spec = one("ScaledObject", "worker")["spec"]
    triggers = {t["name"]: t["metadata"] for t in spec["triggers"]}
    assert sorted(t["listName"] for t in triggers.values()) == sorted(queue_names(["label"]))
    formula = spec["advanced"]["scalingModifiers"]["formula"]
    assert sorted(formula.split(" + ")) == sorted(triggers)
    assert {t["address"] for t in triggers.values()} == {"redis.mtl-batch.svc:6379"}
    assert spec["scaleTargetRef"]["name"] in pods(written())
    assert "replicas" not in one("Deployment", "worker")["spec"]
    assert spec["cooldownPeriod"] > Settings().lease_s + Settings().reconcile_s


# --- overlays


def test_with_gpus_each_pod_has_one_and_the_image_for_it() -> None:
    for name in ("worker", "trainer"):
        pod = pods(rendered("gpu"))[name]
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {c["image"] for c in containers(pod)} == {COMPOSE["services"]["gpu"]["image"]}


def test_with_an_object_store_nothing_is_shared_but_the_store() -> None:
    manifests = rendered("s3")
    assert "PersistentVolumeClaim" not in {m["kind"] for m in manifests}
    for name in ("worker", "trainer"):
        assert not [v for v in pods(manifests)[name]["volumes"] if "persistentVolumeClaim" in v]
    settings = one("ConfigMap", "mtl-settings", manifests)["data"]
    assert settings["MTL_MODELS_DIR"].startswith(settings["MTL_ROOTS"])
