"""A worker in another language, from docs/worker-protocol.md alone: carries one EVALUATION by the majority class.

Usage: PARAFFIN_API_KEY=... python3 majority_worker.py URL RUN_ID. Standard library only.
"""

import collections
import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request

URL, RUN_ID = sys.argv[1:3]
AWAY = {"DATABASE_UNREACHABLE", "OVERLOADED", "RATE_LIMITED", "HTTP 502", "HTTP 503", "HTTP 504"}


class Refused(Exception):
    def __init__(self, failure):
        super().__init__(f"{failure['code']}: {failure['message']}")
        self.code = failure["code"]


def ask(method, path, credential, body=None, kind="application/json"):
    """One request, repeated while the registry is away."""
    while True:
        headers = {"Authorization": f"Bearer {credential}", "Content-Type": kind}
        request = urllib.request.Request(URL + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            try:
                failure = json.loads(error.read())
            except ValueError:  # of a proxy
                failure = {"code": f"HTTP {error.code}", "message": "The answer is not from a registry."}
            if failure["code"] not in AWAY:
                raise Refused(failure) from None
        except OSError:
            pass
        time.sleep(1)


def post(path, credential, **body):
    return json.loads(ask("POST", path, credential, json.dumps(body).encode()))


claimed = post(
    "/worker/claim",
    os.environ["PARAFFIN_API_KEY"],
    protocolVersion=1,
    programVersion="majority_worker.py",
    workerName="python",
    kinds=["EVALUATION"],
    deviceId=None,
    runId=RUN_ID,
    waitSeconds=5,
)
if claimed is None:
    sys.exit("The run does not wait for a worker.")
token = claimed["token"]
config = claimed["run"]["config"]
home = f"/worker/runs/{RUN_ID}"
is_lost = threading.Event()


def renew():
    started = time.monotonic() - claimed["run"]["busySeconds"]
    while not is_lost.wait(1):
        try:
            post(f"{home}/renew", token, busySeconds=time.monotonic() - started)
        except Refused:
            is_lost.set()


threading.Thread(target=renew, daemon=True).start()
[version] = post(f"{home}/sealedVersions", token, ids=[config["datasetVersionId"]])
post(f"{home}/setEnvironment", token, environment={"engine": {"library": "none"}})
images = []
for number, shard in enumerate(version["shards"], start=1):
    data = ask("GET", f"{home}/artifacts/{shard['sha256']}", token)
    assert hashlib.sha256(data).hexdigest() == shard["sha256"], "the bytes were damaged on their way"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name.endswith(".json"):
                images.append((member.name.removesuffix(".json"), json.load(archive.extractfile(member))))
    progress = number / len(version["shards"])
    post(f"{home}/report", token, sequence=number, progress=progress, message=f"Read {len(images)} images.")

counts = collections.Counter(facts["label"] for _, facts in images)
labels = sorted(counts)
majority = max(labels, key=lambda label: counts[label])
lines = [
    {
        "key": key,
        "group": facts.get("group"),
        "resamplingUnit": facts.get("group") or key,
        "label": facts["label"],
        "predicted": majority,
        "probabilities": [counts[label] / len(images) for label in labels],
    }
    for key, facts in images
]
predictions = "".join(json.dumps(line) + "\n" for line in lines).encode()
name = hashlib.sha256(predictions).hexdigest()
stored = json.loads(ask("PUT", f"{home}/artifacts/{name}", token, predictions, "application/octet-stream"))
accuracy = {"name": "accuracy", "value": counts[majority] / len(images), "ci95Low": None, "ci95High": None}
outcome = {
    "kind": "EVALUATION",
    "split": {"kind": "NONE"},
    "metrics": [accuracy],
    "confusionMatrix": None,
    "perClass": [],
    "baselines": [],
    "learningCurve": [],
    "leakage": None,
    "predictions": stored,
    "ungroupedImageCount": sum(facts.get("group") is None for _, facts in images),
}
is_lost.set()
post(f"{home}/succeed", token, outcome=outcome, message=f"accuracy {accuracy['value']:.3f} by the majority class.")
