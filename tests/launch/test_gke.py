"""gke.sh with a kubectl that only notes what it is given, and the manifests."""

import re

import jsonschema
import pytest
import yaml
from fake_commands import ODD_ARGUMENTS
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

_RUN = ["--config=configs/shapes_tiny.py", "--workdir=gs://my-bucket/runs/mine"]
_START = ["--name=mine", "--zone=us-west4-a", "--image=registry/cloob_jax:1", "--yes"]
_SLICE = ["--machine_type=ct5lp-hightpu-4t", "--topology=4x8"]
_GPUS = ["--machine_type=a3-highgpu-8g", "--nodes=2"]
_ANSWERS = """
case "$*" in
  *buckets*) echo US-WEST4 ;;
  *--filename=-*) cat > "$HOME/manifest" ;;
  *current-context*) echo my-context ;;
esac
"""
# The fields of Kueue that are used: kueue.sigs.k8s.io/docs/reference/kueue.v1beta2.
_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"}


def fields(optional=(), **required):
    every = {**required, **dict(optional)}
    return {
        "type": "object",
        "properties": every,
        "required": list(required),
        "additionalProperties": False,
    }


def an_object(kind, spec, **metadata):
    return fields(
        apiVersion={"const": "kueue.x-k8s.io/v1beta2"},
        kind={"const": kind},
        metadata=fields(name=_NAME, **metadata),
        spec=spec,
    )


def a_list(of):
    return {"type": "array", "items": of, "minItems": 1, "maxItems": 16}


_QUOTA = fields(name={"type": "string"}, nominalQuota={"type": ["integer", "string"]})
_KUEUE = [
    an_object(
        "ResourceFlavor",
        fields(
            nodeLabels={"type": "object", "additionalProperties": {"type": "string"}}
        ),
    ),
    an_object(
        "ClusterQueue",
        fields(
            namespaceSelector={"type": "object"},
            resourceGroups=a_list(
                fields(
                    coveredResources=a_list({"type": "string"}),
                    flavors=a_list(fields(name=_NAME, resources=a_list(_QUOTA))),
                )
            ),
        ),
    ),
    an_object("LocalQueue", fields(clusterQueue=_NAME), namespace=_NAME),
]


def start(fakes, *arguments, run=_RUN):
    """The JobSet that kubectl is given."""
    fakes.answer(_ANSWERS)
    done = fakes.run("gke/gke.sh", "start", *_START, *arguments, "--", *run)
    assert done.returncode == 0, done.stderr
    assert fakes.calls()[-1] == ["kubectl", "create", "--filename=-"]
    return yaml.safe_load((fakes.home / "manifest").read_text())


def pod(manifest):
    (job,) = manifest["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def expanded(text, variables):
    """As Kubernetes expands $(NAME) in arguments: $$ is one $."""
    return re.sub(
        r"\$\$|\$\((\w+)\)",
        lambda match: variables.get(match[1], match[0]) if match[1] else "$",
        text,
    )


@pytest.mark.parametrize("kind", [_SLICE, _GPUS], ids=["tpu", "gpu"])
@pytest.mark.parametrize("queue", [[], ["--queue=q"]], ids=["at_once", "queue"])
def test_a_run_is_a_job_set(fakes, kind, queue):
    manifest = start(fakes, *kind, *queue)
    # The models of the API: what they do not know would not come back.
    assert JobsetV1alpha2JobSet.from_dict(manifest).to_dict() == manifest
    assert (manifest["apiVersion"], manifest["kind"]) == (
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
    )
    labels = {"kueue.x-k8s.io/queue-name": "q"} if queue else {}
    assert manifest["metadata"]["labels"] == labels
    assert "${" not in yaml.safe_dump(manifest)


def test_a_slice_of_tpus(fakes):
    manifest = start(fakes, *_SLICE, "--pool=shared")
    (job,) = manifest["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["completions"] == 8
    assert job["template"]["spec"]["parallelism"] == 8
    spec = pod(manifest)
    assert spec["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
        "cloud.google.com/gke-nodepool": "shared",
    }
    (container,) = spec["containers"]
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert container["args"] == _RUN


def test_gpu_nodes_find_the_first(fakes):
    manifest = start(fakes, *_GPUS)
    (container,) = pod(manifest)["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    (job,) = manifest["spec"]["replicatedJobs"]
    # JobSet's pods are named JOBSET-JOB-INDEX-INDEX.JOBSET.
    first = f"{manifest['metadata']['name']}-{job['name']}-0-0.mine"
    assert [expanded(a, {"JOB_COMPLETION_INDEX": "1"}) for a in container["args"]] == [
        f"--coordinator_address={first}:8476",
        "--num_processes=2",
        "--process_id=1",
        *_RUN,
    ]


@pytest.mark.parametrize("kind", [_SLICE, _GPUS], ids=["tpu", "gpu"])
def test_arguments_come_to_the_run_as_they_are(fakes, kind):
    (container,) = pod(start(fakes, *kind, run=ODD_ARGUMENTS))["containers"]
    received = [expanded(a, {"JOB_COMPLETION_INDEX": "1"}) for a in container["args"]]
    assert received[-len(ODD_ARGUMENTS) :] == ODD_ARGUMENTS
    assert not (fakes.home / "pwned").exists()


@pytest.mark.parametrize("kind", [_SLICE, _GPUS], ids=["tpu", "gpu"])
def test_pods_start_again_unless_it_would_fail_again(fakes, kind):
    manifest = start(fakes, *kind)
    (job,) = manifest["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "NotIn"
    assert set(rule["onExitCodes"]["values"]) == {128 + 9, 128 + 15}
    assert (
        rule["onExitCodes"]["containerName"] == pod(manifest)["containers"][0]["name"]
    )
    # What Kubernetes demands where there is a policy.
    assert pod(manifest)["restartPolicy"] == "Never"
    assert spec["backoffLimit"] == 0
    policy = manifest["spec"]["failurePolicy"]
    assert policy["maxRestarts"] > 0
    (mistake,) = policy["rules"]
    assert mistake["action"] == "FailJobSet"
    assert mistake["onJobFailureReasons"] == ["PodFailurePolicy"]


@pytest.mark.parametrize(("kind", "chips"), [(_SLICE, 32), (_GPUS, 16)])
def test_a_queue_waits_for_all_chips(fakes, kind, chips):
    fakes.answer(_ANSWERS)
    given = ["--name=mine", "--pool=shared", "--queue=q", "--namespace=n", *kind]
    done = fakes.run("gke/gke.sh", "queue", *given)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all((fakes.home / "manifest").read_text()))
    for found, schema in zip(objects, _KUEUE, strict=True):
        jsonschema.validate(found, schema)
    flavor, cluster, local = objects
    (group,) = cluster["spec"]["resourceGroups"]
    (quota,) = group["flavors"][0]["resources"]
    assert quota["nominalQuota"] == chips
    assert group["coveredResources"] == [quota["name"]]
    assert group["flavors"][0]["name"] == flavor["metadata"]["name"]
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert local["metadata"] == {"name": "q", "namespace": "n"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (_SLICE, ["--num-nodes=8", "--tpu-topology=4x8"]),
        (["--machine_type=ct6e-standard-8t", "--topology=2x4"], ["--num-nodes=1"]),
        (
            [*_GPUS, "--gpu_type=nvidia-h100-80gb"],
            [
                "--num-nodes=2",
                "--accelerator=type=nvidia-h100-80gb,count=8,gpu-driver-version=latest",
            ],
        ),
    ],
    ids=["slice", "one host", "gpu"],
)
def test_a_pool(fakes, kind, expected):
    where = ["--name=mine", "--zone=us-west4-a", "--cluster=c", "--location=us-west4"]
    done = fakes.run("gke/gke.sh", "create", *where, *kind, "--spot", "--yes")
    assert done.returncode == 0, done.stderr
    assert "chip-hours an hour" in done.stdout
    assert "mine: " in done.stdout and ", spot, in us-west4-a" in done.stdout
    (call,) = fakes.calls()
    assert call[:5] == ["gcloud", "container", "node-pools", "create", "mine"]
    assert set(call[5:]) == {
        *("--cluster=c", "--location=us-west4", "--node-locations=us-west4-a"),
        *("--spot", "--scopes=cloud-platform", kind[0].replace("_", "-", 1)),
        *expected,
    }


def test_a_run_far_from_its_bucket_is_refused(fakes):
    fakes.answer(_ANSWERS.replace("US-WEST4", "EUROPE-WEST4"))
    done = fakes.run("gke/gke.sh", "start", *_START, *_SLICE, "--", *_RUN)
    assert done.returncode == 2
    assert "gs://my-bucket lies in europe-west4, and the machines in" in done.stderr
    assert not (fakes.home / "manifest").exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("stop", ["kubectl", "delete", "jobset", "mine", "--namespace=default"]),
        ("delete", ["gcloud", "container", "node-pools", "delete", "mine"]),
        ("logs", ["kubectl", "logs"]),
        ("status", ["kubectl", "get", "pods"]),
    ],
)
def test_commands_on_what_is_there(fakes, command, expected):
    given = ["--name=mine", "--cluster=c", "--location=l", "--yes"]
    done = fakes.run("gke/gke.sh", command, *given)
    assert done.returncode == 0, done.stderr
    call = fakes.calls()[-1]
    assert call[: len(expected)] == expected
    if command in ("logs", "status"):
        assert any("jobset.sigs.k8s.io/jobset-name=mine" in word for word in call)
