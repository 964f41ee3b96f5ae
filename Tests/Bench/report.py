#!/usr/bin/env python3
"""Writes the figures of a bench as Markdown.

usage: report.py FOLDER [testbed]

FOLDER holds guest.json, emulated.json and host.json.
"""
import json
import os
import subprocess
import sys
import time

MIB = 1 << 20


def load(path):
    """A file of figures, empty if there is none."""
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def first(words):
    """The first line that a program says."""
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return (result.stdout.splitlines() or ["?"])[0]


def rows(guest, emulated, host):
    """What must be, what was measured, and whether it is so."""
    if boot := guest.get("boot"):
        ratio = boot["ours_ms"] / boot["qemu_ms"]
        yield ("VMM start to the agent's answer, against QEMU microvm", "≤ 0.5",
               f"{ratio:.2f} ({boot['ours_ms']:.0f} ms to {boot['qemu_ms']:.0f} ms)", ratio <= 0.5)
    if memory := guest.get("memory"):
        pss, private = memory["ours_pss"] / MIB, memory["ours_private"] / MIB
        yield ("VMM memory beside the guest's: Pss, private", "≤ 5 MiB",
               f"{pss:.1f} MiB, {private:.1f} MiB (QEMU: {memory['qemu_pss'] / MIB:.0f} MiB, "
               f"{memory['qemu_private'] / MIB:.0f} MiB)", pss <= 5 and private <= 5)
    if boot := emulated.get("boot"):
        ratio, whole = boot["ours_ms"] / boot["qemu_ms"], emulated["run"]["whole_ms"] / 1e3
        memory = emulated["memory"]
        yield ("`apus run IMAGE true`, emulated, warm", "≤ 3 s", f"{whole:.2f} s", whole <= 3)
        yield ("emulated: start to the agent's answer, against plain QEMU q35", "≤ 1.3",
               f"{ratio:.2f} ({boot['ours_ms']:.0f} ms to {boot['qemu_ms']:.0f} ms)", ratio <= 1.3)
        yield ("emulated: memory (Pss) of apus-qemu, of QEMU beside the guest's", "shown",
               f"{memory['apus'] / MIB:.1f} MiB, {memory['qemu'] / MIB:.1f} MiB", True)
    if shim := host.get("shim"):
        ratio = shim["ours"] / shim["containerd"]
        yield ("shim memory (Pss) with runc, five at once, against containerd's runc shim", "≤ 0.6",
               f"{ratio:.2f} ({shim['ours'] / MIB:.1f} MiB to {shim['containerd'] / MIB:.1f} MiB)",
               ratio <= 0.6)
    names = {"sequential-128k": "128 KiB in order", "random-4k": "4 KiB anywhere",
             "sequential-128k-x4": "128 KiB in order, four at once",
             "random-4k-x4": "4 KiB anywhere, four at once"}
    for name, text in names.items():
        if rate := guest.get("block", {}).get(name):
            ratio = rate["ours"] / rate["qemu"]
            yield (f"block reads, {text}, against QEMU virtio-blk", "≥ 0.9",
                   f"{ratio:.2f} ({rate['ours'] / 1e6:.1f} MB/s to {rate['qemu'] / 1e6:.1f} MB/s)",
                   ratio >= 0.9)
    if output := host.get("output"):
        yield ("1 GiB of output through `apus run`, runc", "≥ 1 GB/s, sha256 equal",
               f"{output['rate'] / 1e9:.2f} GB/s, {'' if output['equal'] else 'not '}equal",
               output["rate"] >= 1e9 and output["equal"])
    if agent := guest.get("agent"):
        binary, resident = agent["binary"] / MIB, agent["resident"] / MIB
        yield ("agent: program, resident", "≤ 2 MiB, ≤ 3 MiB",
               f"{binary:.2f} MiB, {resident:.2f} MiB", binary <= 2 and resident <= 3)


def main():
    folder = sys.argv[1]
    guest, emulated, host = (load(f"{folder}/{name}.json")
                             for name in ("guest", "emulated", "host"))
    where = ("VMs with KVM ran in `hack/testbed`, under emulation: only ratios mean something "
             "there. "
             if sys.argv[2:] == ["testbed"] else "")
    qemu = first(["qemu-system-x86_64", "--version"])
    print("# Benchmarks\n")
    print("Written by `hack/bench`, which says what each figure is and how it is measured: "
          "medians of runs that follow one another, A B A B. Emulated VMs, the shim and the output "
          f"were measured on the machine itself. {where}Peers: {qemu}; "
          "containerd-shim-runc-v2 of Debian's containerd.\n")
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {os.cpu_count()} CPUs, "
          f"commit {first(['git', 'rev-parse', '--short', 'HEAD'])}.\n")
    print("| figure | must | measured | |\n| --- | --- | --- | --- |")
    for what, must, found, good in rows(guest, emulated, host):
        print(f"| {what} | {must} | {found} | {'✓' if good else '**missed**'} |")
    for name, figures in (("kvm", guest), ("emulated", emulated)):
        if run := figures.get("run"):
            print(f"\n## `apus run IMAGE true`, warm, {name}\n")
            print(f"{run['whole_ms']:.0f} ms in all, as `--timings` tells it; a phase is named by "
                  "what ends it.\n")
            print("| phase | ms |\n| --- | --- |")
            for phase, value in run["phases"].items():
                print(f"| {phase} | {value:.1f} |")


main()
