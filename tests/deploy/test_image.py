"""The image of deploy/Dockerfile, built and started (`make image`): it labels, and a cell works."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from places import ROOT

IMAGE = Path(os.environ.get("ABHINAYA_IMAGE_ROOT", ROOT / "build" / "image" / "root"))
CONFINED = Path(__file__).with_name("confined.sh")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root"),
    pytest.mark.skipif(not IMAGE.exists(), reason=f"{IMAGE} is missing: run `make image`"),
]

CALL = (ROOT / "bench" / "demo" / "call.opus").read_bytes()
CELL = """
set -eu
umask 077
cat > call.opus
abhinaya keys keys hub
abhinaya keys keys node --role node
abhinaya keys keys operator --role operator
for name in node operator; do
  mkdir $name
  cp keys/hub.key keys/$name.key_secret $name/
done
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key.pem -out cert.pem
abhinaya hub tcp://127.0.0.1:9000 --keys keys --alive hub.alive & hub=$!
abhinaya node asr tcp://127.0.0.1:9000 --keys node --alive node.alive & node=$!
abhinaya serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --data /data/gateway \
  --join tcp://127.0.0.1:9000 --keys operator & gateway=$!
python -c '
import ssl, time, urllib.error, urllib.request
context, code = ssl._create_unverified_context(), 0
deadline = time.monotonic() + 60
while code != 200 and time.monotonic() < deadline:
    time.sleep(0.1)
    try:
        code = urllib.request.urlopen("https://127.0.0.1:8377/readyz", context=context).status
    except urllib.error.URLError as error:
        code = getattr(error, "code", 0)
print("readyz", code, flush=True)'
for name in hub node; do
  test -n "$(find $name.alive -newermt "-15 seconds")" && echo "$name is alive"
done
abhinaya-stream call.opus --channels split --hub tcp://127.0.0.1:9000 --keys operator
for process in $gateway $node $hub; do
  kill -TERM $process
  code=0
  wait $process || code=$?
  echo "ended $code"
done
"""


def run(script: str) -> list[str]:
    """Run a script of the shell in the image, with the demo call as its input; return its lines."""
    unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
    command = [*unshare, str(CONFINED), str(IMAGE), "sh", "-c", f"cd /tmp; {script}"]
    done = subprocess.run(command, input=CALL, capture_output=True, timeout=200)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode().splitlines()


def test_it_is_confined_and_has_no_pip() -> None:
    said = run(
        "id -u; grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status;"
        "for f in / /opt/abhinaya /etc /data /tmp; do touch $f/x && echo $f; done;"
        "for m in pip setuptools; do python -m $m --version && echo has $m; done;"
        "command -v pip pip3; true"
    )
    none = "0000000000000000"
    assert set(said) == {
        *("10001", f"CapBnd:\t{none}", f"CapEff:\t{none}", "NoNewPrivs:\t1"),
        *("/data", "/tmp"),
    }


def has_labelled_all(said: list[str]) -> bool:
    ends = [line for line in said if line.startswith("summary")]
    assert len(ends) == 2
    return all("segments=9" in line and "gaps=0" in line for line in ends)


def test_it_labels_the_demo_call_without_a_network() -> None:
    assert has_labelled_all(run("cat > call.opus; abhinaya-stream call.opus --channels split"))


def test_a_cell_is_ready_labels_and_ends_in_order() -> None:
    said = run(CELL)
    assert {"readyz 200", "hub is alive", "node is alive"} <= set(said)
    assert has_labelled_all(said)
    assert said[-3:] == ["ended 0"] * 3
