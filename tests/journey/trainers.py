"""What each cloud does with a training job: the container's ``train``, by what the cloud's server was told of it.

The server is asked for jobs that were created and not begun. Image arguments, variables, where the input is put and
where the output goes are the created job's; nothing comes from us but where the emulators are. What the process ends
with becomes the job's state in the server, which the adapter asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aws_place
import requests
import stores

from passerelle.adapters.objectstore import get_folder, open_store, put_folder
from passerelle.deployment.package import Package, tarball

#: SageMaker's folders are at the root of its machine; here they are elsewhere.
SAGEMAKER = (
    "import sys; from pathlib import Path; from passerelle.loop import jobrun;jobrun.main(sagemaker=Path(sys.argv[1]))"
)
TRAIN = [sys.executable, "-m", "passerelle.serving.container", "train"]
#: What SageMaker writes round a container's own reason.
_REASON = "AlgorithmError: {}, exit code: {}"
LOOK_S = 0.2

#: Cloud's variables, a folder of its own → the outputs of the jobs that it ran, each to its end.
Trainer = Callable[[dict[str, str], Path], list[str]]


def run(command: list[str], variables: dict[str, str], folder: Path) -> int:
    """The container's process, on a machine that has nothing but what was told; the code that it ends with."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with (folder / "said.txt").open("w") as said:
        done = subprocess.run(command, env=own | variables, cwd=folder, stdout=said, stderr=said, check=False)
    return done.returncode


def sagemaker(variables: dict[str, str], folder: Path) -> list[str]:
    """InputDataConfig below /opt/ml/input/data; /opt/ml/model, packed, to S3OutputPath if the container ends well."""
    client = aws_place.client("sagemaker")
    begun: list[str] = []
    for summary in client.list_training_jobs()["TrainingJobSummaries"]:
        name = summary["TrainingJobName"]
        told = client.describe_training_job(TrainingJobName=name)
        ml = folder / name / "ml"
        if told["TrainingJobStatus"] != "InProgress" or ml.exists():
            continue
        begun.append(told["OutputDataConfig"]["S3OutputPath"])
        for channel in told["InputDataConfig"]:
            source = channel["DataSource"]["S3DataSource"]
            assert (source["S3DataType"], told["AlgorithmSpecification"]["TrainingInputMode"]) == ("S3Prefix", "File")
            get_folder(source["S3Uri"], ml / "input" / "data" / channel["ChannelName"])
        (ml / "model").mkdir()
        # Not the machine's own variables: SageMaker gives the role's rights another way.
        code = run([sys.executable, "-c", SAGEMAKER, str(ml)], told.get("Environment", {}), folder / name)
        if code == 0:
            packed = tarball(Package(folder=ml / "model", digest="", revision=0), folder / name / "model.tar.gz")
            at = open_store(f"{told['OutputDataConfig']['S3OutputPath']}/{name}/output")
            at.put("model.tar.gz", packed)
            ended = ["Completed", None]
        else:
            ended = ["Failed", _REASON.format((ml / "output" / "failure").read_text(), code)]
        aws_place.control(variables["AWS_ENDPOINT_URL"], "_order", {"ended": {name: ended}})
    return begun


def azureml(variables: dict[str, str], folder: Path) -> list[str]:
    """Inputs and outputs are mounted folders, which the command names; what is in the output folder is in the store."""
    address = variables["PASSERELLE_AZURE_ADDRESS"]
    made: dict[str, Any] = requests.get(f"{address}/_there", timeout=10).json()["made"]
    begun: list[str] = []
    for path, one in made.items():
        told, own = one["properties"], folder / path.rpartition("/")[2]
        if "/jobs/" not in path or told["status"] != "Running" or own.exists():
            continue
        begun.append(told["outputs"]["output"]["uri"])
        assert told["environmentId"].lower() in made, "the job's environment is not there"
        command = told["command"]
        uris = {
            f"{kind}s.{name}": given["uri"] for kind in ("input", "output") for name, given in told[f"{kind}s"].items()
        }
        for name, uri in uris.items():
            mounted = own / name
            if name.startswith("inputs"):
                get_folder(f"az://{stores.BUCKET}/{uri.partition('/paths/')[2]}", mounted)
            command = command.replace("${{" + name + "}}", str(mounted))
        code = run(["/bin/sh", "-c", command], told["environmentVariables"], own)
        put_folder(f"az://{stores.BUCKET}/{uris['outputs.output'].partition('/paths/')[2]}", own / "outputs.output")
        told["status"] = "Failed" if code else "Completed"
        requests.post(f"{address}/_put", json={path: one}, timeout=10).raise_for_status()
    return begun


def vertex(variables: dict[str, str], folder: Path) -> list[str]:
    """The container fetches and puts by itself, and is told by variables where."""
    address = variables["STORAGE_EMULATOR_HOST"]
    begun: list[str] = []
    for id_, one in requests.get(f"{address}/_state", timeout=10).json()["jobs"].items():
        own = folder / id_
        if one["state"] != "JOB_STATE_PENDING" or own.exists():
            continue
        begun.append(one["jobSpec"]["baseOutputDirectory"]["outputUriPrefix"])
        (pool,) = one["jobSpec"]["workerPoolSpecs"]
        told = {item["name"]: item["value"] for item in pool["containerSpec"]["env"]}
        assert pool["containerSpec"]["args"] == TRAIN[-1:]
        code = run(TRAIN, told | {"STORAGE_EMULATOR_HOST": address}, own)
        orders: list[Any] = [[["jobs", id_, "state"], "JOB_STATE_FAILED" if code else "JOB_STATE_SUCCEEDED"]]
        if code:
            message = f"The replica workerpool0-0 exited with a non-zero status of {code}."
            orders.insert(0, [["jobs", id_, "error"], {"code": 3, "message": message}])
        requests.post(f"{address}/_orders", json={"set": orders}, timeout=10).raise_for_status()
    return begun


TRAINERS: dict[str, Trainer] = {"sagemaker": sagemaker, "azureml": azureml, "vertex": vertex}


@contextmanager
def training(name: str, variables: dict[str, str], folder: Path) -> Iterator[list[str]]:
    """The cloud begins jobs as they are created, until the block ends; the runs that they were of."""
    begun: list[str] = []
    errors: list[BaseException] = []
    over = threading.Event()

    def look() -> None:
        try:
            while not over.wait(LOOK_S):
                begun.extend(output.split("/")[-2] for output in TRAINERS[name](variables, folder))
        except BaseException as error:
            errors.append(error)
            raise

    thread = threading.Thread(target=look, name=f"{name} trains", daemon=True)
    thread.start()
    try:
        yield begun
    finally:
        over.set()
        thread.join(60)
    assert not errors, errors
