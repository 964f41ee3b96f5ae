#!/usr/bin/env python3
"""Figures of isolation runc, on the machine itself; hack/bench runs this.

usage: host.py BIN ARCHIVE SHIM OUT [PART...]

BIN: folder of Apus's programs. ARCHIVE: an image of busybox for `apus image import`. SHIM:
containerd-shim-runc-v2. OUT: a file for the figures, as JSON. Parts: shim output; without a name
both.
"""
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import ttrpc

TASK = "containerd.task.v2.Task"
SHIMS, OUTPUTS = 5, 5
GIB = 1 << 30


def say(text):
    """Progress, for a person."""
    print(f"bench: {text}", flush=True)


class Shim:
    """A shim with one container under runc, driven as containerd drives it."""

    def __init__(self, program, options=b""):
        self.folder = tempfile.mkdtemp(prefix="apus-b", dir="/tmp")
        self.bundle = f"{self.folder}/bundle"
        self.id = f"bench{os.getpid()}x{time.monotonic_ns()}"
        os.makedirs(f"{self.bundle}/rootfs")
        root = f"{self.folder}/root"
        for name in ("bin", "dev", "proc", "sys", "etc"):
            os.makedirs(f"{root}/{name}")
        shutil.copy("/bin/busybox", f"{root}/bin/sleep")
        subprocess.run(["runc", "spec", "--bundle", self.bundle], check=True)
        with open(f"{self.bundle}/config.json", encoding="utf-8") as file:
            config = json.load(file)
        config["process"].update(terminal=False, args=["/bin/sleep", "1000"])
        config["root"] = {"path": "rootfs"}
        config["linux"]["cgroupsPath"] = f"/{self.id}"
        with open(f"{self.bundle}/config.json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        # containerd's shim does not run without somebody who reads its log.
        os.mkfifo(f"{self.bundle}/log")
        self.log = os.open(f"{self.bundle}/log", os.O_RDWR | os.O_NONBLOCK)
        self.events = ttrpc.serve_nothing(f"{self.folder}/containerd")
        self.words = [program, "-namespace", "bench", "-address", f"{self.folder}/containerd",
                      "-publish-binary", "/bin/true", "-id", self.id]
        environment = dict(os.environ, TTRPC_ADDRESS=f"{self.folder}/containerd")
        started = subprocess.run(
            [*self.words, "start"], cwd=self.bundle, env=environment, check=True, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        address = started.stdout.strip()
        self.client = ttrpc.Client.unix(address.removeprefix("unix://"))
        fifos = [f"{self.folder}/stdout", f"{self.folder}/stderr"]
        for path in fifos:
            os.mkfifo(path)
        self.outputs = [os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in fifos]
        mount = ttrpc.message((1, "bind"), (2, root), (4, "rbind"), (4, "rw"))
        self.client.call(TASK, "Create", ttrpc.message(
            (1, self.id), (2, self.bundle), (3, mount), (6, fifos[0]), (7, fifos[1]),
            (10, options)))
        self.client.call(TASK, "Start", ttrpc.message((1, self.id)))
        connected = self.client.call(TASK, "Connect", ttrpc.message((1, self.id)))
        self.pid = connected[1][0]

    def pss(self):
        """Bytes of the serving process, what it shares divided among those who share it."""
        with open(f"/proc/{self.pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) << 10
        return 0

    def end(self):
        """Ends the container and the shim."""
        name = ttrpc.message((1, self.id))
        try:
            self.client.call(TASK, "Kill", ttrpc.message((1, self.id), (3, 9)))
            self.client.call(TASK, "Wait", name)
            self.client.call(TASK, "Delete", name)
            self.client.call(TASK, "Shutdown", name)
        except (ttrpc.Failed, OSError):
            pass
        subprocess.run([*self.words, "-bundle", self.bundle, "delete"], cwd=self.bundle,
                       check=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for descriptor in [*self.outputs, self.log]:
            os.close(descriptor)
        self.events.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def shims(folder, theirs):
    """Bytes (Pss) of our shim and of containerd's for runc, each with one container at rest."""
    body = ttrpc.message((3, b'isolation = "runc"\n'))
    options = ttrpc.message((1, "runtimeoptions.v1.Options"), (2, body))
    kinds = {"ours": (f"{folder}/containerd-shim-apus-v2", options), "containerd": (theirs, b"")}
    found = {name: [] for name in kinds}
    # Several of each at once, as on a machine that is used: what can be shared is shared.
    running = []
    try:
        for name, (program, given) in kinds.items():
            alive = [Shim(program, given) for _ in range(SHIMS)]
            running += alive
            time.sleep(3)
            found[name] = [shim.pss() for shim in alive]
            for shim in alive:
                shim.end()
                running.remove(shim)
    finally:
        for shim in running:
            shim.end()
    figures = {name: statistics.median(values) for name, values in found.items()}
    say(f"shim: {figures}, ratio {figures['ours'] / figures['containerd']:.2f}")
    return figures


def output(folder, archive):
    """Bytes a second of 1 GiB of a container's output through `apus run`, and its sha256."""
    place = tempfile.mkdtemp(prefix="apus-b", dir="/tmp")
    where = ["--root", f"{place}/r", "--state", f"{place}/s"]
    rates = []
    try:
        subprocess.run([f"{folder}/apus", "image", "import", *where, archive], check=True,
                       stdout=subprocess.DEVNULL)

        def start(line, errors=None):
            return subprocess.Popen(
                [f"{folder}/apus", "run", *where, "--rm", "--isolation", "runc", "busybox", "sh",
                 "-c", line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)

        def pass_on(process, each):
            count, began = 0, 0
            while data := os.read(process.stdout.fileno(), 1 << 20):
                began = began or time.monotonic()
                count += len(data)
                each(data)
            took = time.monotonic() - began
            if process.wait() != 0 or count != GIB:
                sys.exit(f"bench: output: status {process.returncode}, {count} bytes of {GIB}")
            return took

        for _ in range(OUTPUTS):
            process = start("dd if=/dev/zero bs=1M count=1024 2>/dev/null")
            rates.append(GIB / pass_on(process, lambda data: None))
        # Random bytes, with their digest by the container itself.
        digest = hashlib.sha256()
        with tempfile.TemporaryFile(dir=place) as errors:
            pass_on(start(
                "head -c 16777216 /dev/urandom > /tmp/x\n"
                "all() { for i in $(seq 64); do cat /tmp/x; done; }\n"
                "all | sha256sum >&2; all", errors), digest.update)
            errors.seek(0)
            equal = errors.read().decode().split()[:1] == [digest.hexdigest()]
    finally:
        shutil.rmtree(place, ignore_errors=True)
    rate = statistics.median(rates)
    say(f"output: {rate / 1e9:.2f} GB/s, sha256 {'equal' if equal else 'NOT EQUAL'}; {rates}")
    return {"rate": rate, "equal": equal}


def main():
    folder, archive, theirs, out = sys.argv[1:5]
    parts = sys.argv[5:] or ["shim", "output"]
    figures = {}
    if os.path.exists(out):
        with open(out, encoding="utf-8") as file:
            figures = json.load(file)
    steps = {"shim": lambda: shims(folder, theirs), "output": lambda: output(folder, archive)}
    for part in parts:
        figures[part] = steps[part]()
        with open(f"{out}.part", "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
        os.replace(f"{out}.part", out)


main()
