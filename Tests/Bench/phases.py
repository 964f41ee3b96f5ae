"""`apus run IMAGE true` by phase, as the programs themselves tell it."""

import re
import statistics
import subprocess
import time

RUNS = 7


def run(folder, archive, isolation):
    """Milliseconds of each phase of `apus run IMAGE true`, warm."""
    place = "/tmp/apus-bench"
    where = ["--root", f"{place}/r", "--state", f"{place}/s"]
    phases, whole = {}, []
    try:
        subprocess.run([f"{folder}/apus", "image", "import", *where, archive], check=True,
                       stdout=subprocess.DEVNULL)
        for number in range(RUNS + 1):
            began = time.monotonic()
            result = subprocess.run(
                [f"{folder}/apus", "run", *where, "--rm", "--isolation", isolation,
                 "--timings", "busybox", "true"], check=True, capture_output=True, text=True)
            if number == 0:
                first = result.stderr
                continue
            whole.append((time.monotonic() - began) * 1e3)
            for name, value in re.findall(r"^(\S+)\s+[\d.]+\s+([\d.]+)$", result.stderr, re.M):
                phases.setdefault(name, []).append(float(value))
    finally:
        subprocess.run(["rm", "-rf", place], check=False)
    figures = {name: statistics.median(values) for name, values in phases.items()}
    print(f"bench: run, {isolation}: {statistics.median(whole):.0f} ms; {figures}\n{first}",
          flush=True)
    return {"whole_ms": statistics.median(whole), "phases": figures}
