#!/usr/bin/env python3
"""Figures of VMs by software emulation, on the machine itself; hack/bench runs this.

usage: emulated.py BIN ARCHIVE OUT

BIN: folder of the programs. ARCHIVE: an image for `apus image import`. OUT: a file for the figures,
as JSON. Runs of the two programs that are compared follow one another, A B A B; each figure is the
median.
"""
import json
import os
import statistics
import subprocess
import sys
import time

import phases
from machines import OursEmulated, QemuEmulated

BOOTS = 7


def say(text):
    """Progress, for a person."""
    print(f"bench: {text}", flush=True)


def boots(folder):
    """Milliseconds from the program's start to the agent's answer, by program."""
    times = {OursEmulated: [], QemuEmulated: []}
    for number in range(BOOTS + 1):
        for kind, found in times.items():
            with kind(f"{folder}/vmlinux", f"{folder}/initramfs.img") as machine:
                took = machine.boot() / 1e6
            # The first of each only warms the caches.
            if number > 0:
                found.append(took)
    ours, theirs = (statistics.median(found) for found in times.values())
    say(f"emulated boot: apus-qemu {ours:.0f} ms, QEMU {theirs:.0f} ms, {ours / theirs:.2f}")
    return {"ours_ms": ours, "qemu_ms": theirs, "all": list(times.values())}


def descendants(pid):
    """A process and all that came from it."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            for child in file.read().split():
                found += descendants(int(child))
    return found


def memory(folder):
    """Bytes (Pss) of apus-qemu's processes and of QEMU beside the guest's memory."""
    found = {"apus": 0, "qemu": 0}
    with OursEmulated(f"{folder}/vmlinux", f"{folder}/initramfs.img") as machine:
        machine.boot()
        time.sleep(3)
        for pid in descendants(machine.process.pid):
            name = os.readlink(f"/proc/{pid}/exe")
            found["qemu" if "qemu-system" in name else "apus"] += machine.memory(pid)[0]
    say(f"emulated memory: {found}")
    return found


def main():
    folder, archive, out = sys.argv[1:4]
    OursEmulated.program = f"{folder}/apus-qemu"
    figures = {"boot": boots(folder), "memory": memory(folder),
               "run": phases.run(folder, archive, "emulated")}
    with open(f"{out}.part", "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=1)
    os.replace(f"{out}.part", out)


main()
