#!/usr/bin/env python3
"""Figures that need a complete /dev/kvm; hack/bench runs this in the testbed.

usage: guest.py BIN READER-INITRAMFS LAYER ARCHIVE OUT [PART...]

BIN: folder of the programs. LAYER: an erofs image of busybox, ARCHIVE: one for `apus image import`.
OUT: a file for the figures, as JSON. Parts: boot memory agent block run; without a name all. Runs
of the two programs that are compared follow one another, A B A B; each figure is the median.
"""
import json
import os
import re
import statistics
import struct
import sys
import time

import machines
import phases
import ttrpc
from machines import AGENT, Ours, Qemu

BOOTS, READS = 7, 3


def say(text):
    """Progress, for a person."""
    print(f"bench: {text}", flush=True)


def boots(folder):
    """Milliseconds from the program's start to the agent's answer, by program."""
    times = {Ours: [], Qemu: []}
    for number in range(BOOTS + 1):
        for kind in (Ours, Qemu):
            with kind(f"{folder}/vmlinux", f"{folder}/initramfs.img") as machine:
                took = machine.boot() / 1e6
            # The first of each only warms the caches.
            if number > 0:
                times[kind].append(took)
    ours, theirs = (statistics.median(times[kind]) for kind in (Ours, Qemu))
    say(f"boot: ours {ours:.0f} ms, QEMU {theirs:.0f} ms")
    return {"ours_ms": ours, "qemu_ms": theirs, "ours_all": times[Ours], "qemu_all": times[Qemu]}


def memory(folder):
    """Bytes of the programs beside their guests' memory, while the guests do nothing."""
    found = {}
    for kind, name in ((Ours, "ours"), (Qemu, "qemu")):
        with kind(f"{folder}/vmlinux", f"{folder}/initramfs.img") as machine:
            machine.boot()
            time.sleep(3)
            found[f"{name}_pss"], found[f"{name}_private"] = machine.memory()
    say(f"memory: {found}")
    return found


def agent(folder, layer):
    """Bytes of the agent's program, and of what it holds in a guest that does nothing."""
    with Ours(f"{folder}/vmlinux", f"{folder}/initramfs.img", disks=[layer]) as machine:
        machine.boot()
        time.sleep(2)
        token = 4711
        stream = machine.connect(1025)
        stream.sendall(struct.pack("<Q", token))
        if stream.recv(1) != b"\6":
            raise RuntimeError("the agent does not take the stream")
        process = ttrpc.message((1, "cat"), (1, "/proc/1/status"), (2, "PATH=/bin"), (3, "/"))
        # Without a pid namespace of its own the container sees PID 1.
        machine.agent.call(AGENT, "CreateContainer", ttrpc.message(
            (1, "c"), (2, ttrpc.message((1, "layer0"))), (3, process),
            (5, ttrpc.message((1, "/proc"), (2, "proc"), (3, "proc"))),
            (9, ttrpc.message((2, token))), (10, bytes([2, 3, 4, 5]))), 120)
        machine.agent.call(AGENT, "StartProcess", ttrpc.message((1, "c")), 120)
        text = b""
        while part := stream.recv(4096):
            text += part
    resident = int(re.search(rb"VmRSS:\s*(\d+) kB", text)[1]) << 10
    found = {"binary": os.path.getsize(f"{folder}/apus-agent"), "resident": resident}
    say(f"agent: {found}")
    return found


def block(folder, initramfs):
    """Bytes a second that a guest reads from a disk, by program and kind of reading."""
    disk = "/dev/shm/apus-bench-disk"
    with open("/dev/urandom", "rb") as source, open(disk, "wb") as file:
        for _ in range(64):
            file.write(source.read(1 << 20))
    rates = {}
    try:
        for _ in range(READS):
            for kind, name in ((Ours, "ours"), (Qemu, "qemu")):
                with kind(f"{folder}/vmlinux", initramfs, disks=[disk], vsock=False) as machine:
                    text = machine.run()
                found = re.findall(r"figure (\S+) (\d+)", text)
                if len(found) != 4:
                    raise RuntimeError(f"{kind.name}: {text}")
                for figure, rate in found:
                    rates.setdefault(figure, {}).setdefault(name, []).append(int(rate))
    finally:
        os.remove(disk)
    figures = {}
    for figure, both in rates.items():
        ours, theirs = statistics.median(both["ours"]), statistics.median(both["qemu"])
        figures[figure] = {"ours": ours, "qemu": theirs}
        say(f"block {figure}: ours {ours / 1e6:.1f} MB/s, QEMU {theirs / 1e6:.1f} MB/s")
    return figures


def main():
    folder, initramfs, layer, archive, out = sys.argv[1:6]
    parts = sys.argv[6:] or ["boot", "memory", "agent", "block", "run"]
    machines.Ours.program = f"{folder}/apus-vmm"
    figures = {}
    if os.path.exists(out):
        with open(out, encoding="utf-8") as file:
            figures = json.load(file)
    steps = {
        "boot": lambda: boots(folder), "memory": lambda: memory(folder),
        "agent": lambda: agent(folder, layer), "block": lambda: block(folder, initramfs),
        "run": lambda: phases.run(folder, archive, "kvm")}
    for part in parts:
        figures[part] = steps[part]()
        with open(f"{out}.part", "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
        os.replace(f"{out}.part", out)


main()
