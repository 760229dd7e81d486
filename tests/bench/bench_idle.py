"""What the idle daemon costs over a minute, beside the plainest peer: a watchdog observer that only prints.

usage: python -m tests.bench.bench_idle [SECONDS]
Prints resident and proportional memory (MiB) and CPU (% of one core) of both, sampled at the end of the same minute.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from thaud.control import daemon_runs
from thaud.home import Home

PEER = """
import sys, time
from watchdog.observers import Observer
from watchdog.events import LoggingEventHandler
observer = Observer()
observer.schedule(LoggingEventHandler(), sys.argv[1])
observer.start()
observer.join()
"""


def start_daemon(root: Path) -> subprocess.Popen[bytes]:
    """A real daemon on a new nano home, with its HTTP door open on a free port."""
    environment = {**os.environ, "THAU_HOME": str(root), "THAU_API__PORT": "0"}
    subprocess.run([sys.executable, "-m", "thaud.cli", "init", "--size", "nano"], env=environment, check=True)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "thaud.cli", "start"],
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not daemon_runs(Home(root)):
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit("the daemon did not start")
        time.sleep(0.1)
    return daemon


def cost(process: psutil.Process, cpu_before: float, seconds: float) -> tuple[float, float, float]:
    """(resident MiB, proportional MiB, % of one core) of a process."""
    memory = process.memory_full_info()
    cpu = sum(process.cpu_times()[:2]) - cpu_before
    return memory.rss / 2**20, memory.pss / 2**20, 100 * cpu / seconds


def main() -> None:
    """Let both idle side by side, then print them."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        daemon = start_daemon(Path(folder))
        peer = subprocess.Popen([sys.executable, "-c", PEER, folder])
        time.sleep(5)
        processes = [psutil.Process(each.pid) for each in (daemon, peer)]
        before = [sum(process.cpu_times()[:2]) for process in processes]
        time.sleep(seconds)
        ours, theirs = (cost(process, cpu, seconds) for process, cpu in zip(processes, before, strict=True))
        for each in (daemon, peer):
            each.send_signal(signal.SIGTERM)
            each.wait(30)
    print(f"idle for {seconds:.0f} s     RSS MiB   PSS MiB   CPU % of one core")
    print(f"thaud              {ours[0]:8.1f}  {ours[1]:8.1f}  {ours[2]:8.3f}")
    print(f"bare watchdog      {theirs[0]:8.1f}  {theirs[1]:8.1f}  {theirs[2]:8.3f}")
    print(f"ratio              {ours[0] / theirs[0]:8.2f}  {ours[1] / theirs[1]:8.2f}")


if __name__ == "__main__":
    main()
