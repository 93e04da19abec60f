"""The processes under test: started so that they cannot outlive the run, found with their children, weighed."""

import ctypes
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Acceptance"))

import harness.process  # noqa: E402

_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


def bound():
    """In a new child: dies with the benchmark, however that dies; descriptors for thousands of streams."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# The doubles and wrappers of the acceptance tests start their programs the same way.
harness.process.modest = bound
# All of them in the session of the load: the kernel shares out processor time by sessions first, and nobody shall have more of it.
harness.process.own_sessions = False


class Program:
    """A peer: its output goes to a file, its end is ours."""

    def __init__(self, arguments, log):
        self.arguments, self.log = [str(one) for one in arguments], log
        with open(log, "ab") as file:
            self.child = subprocess.Popen(
                self.arguments, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, preexec_fn=bound)

    @property
    def pid(self):
        return self.child.pid

    def wait_listening(self, port, seconds=15.0):
        """Until somebody listens on the port; nobody is connected to for that."""
        deadline = time.monotonic() + seconds
        while port not in listening():
            if self.child.poll() is not None or time.monotonic() > deadline:
                said = pathlib.Path(self.log).read_text().splitlines() or ["nothing"]
                raise RuntimeError(f"{pathlib.Path(self.arguments[0]).name} does not listen on {port}, it says: {said[-1]}")
            time.sleep(0.02)

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(5)


def listening():
    """The TCP ports of the loopback that somebody listens on."""
    found = set()
    with open("/proc/net/tcp") as file:
        next(file)
        for line in file:
            fields = line.split()
            if fields[3] == "0A":
                found.add(int(fields[1].rpartition(":")[2], 16))
    return found


def family(*roots):
    """The processes and all that they started."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    members = [root for root in roots if root in parents]
    for member in members:
        members += [pid for pid, parent in parents.items() if parent == member and pid not in members]
    return members


def begin_peak(pids):
    """From now on `peak` counts anew."""
    for pid in pids:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")


def peak(pids):
    """Bytes of memory that these processes have had at most, and those that they have now, shared pages included."""
    most = present = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        most += int(fields["VmHWM"].split()[0]) * 1024
        present += int(fields["VmRSS"].split()[0]) * 1024
    return most, present


def resident(pids):
    """Bytes of memory that these processes have for themselves, shared pages by their share."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024
    return total
