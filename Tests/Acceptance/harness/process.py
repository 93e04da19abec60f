"""A program under test: its log lines as events, and its end by process id."""

import itertools
import os
import re
import resource
import signal
import subprocess
import tempfile
import threading
import time


def modest():
    """The descriptor limit that a login has, however many the tests themselves took: a program raises its own."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


# Whether every program gets a session of its own, which a terminal's signals miss and which the scheduler weighs as a group.
own_sessions = True

_homes = tempfile.TemporaryDirectory(prefix="iotstream-identities.")
_home_numbers = itertools.count()


def surroundings(environment):
    """The tests' own environment without iotstream's variables, and a directory for keys that no other program shares."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("IOTSTREAM_")}
    own = f"{_homes.name}/{next(_home_numbers)}"
    variables["IOTSTREAM_IDENTITY"] = variables["STATE_DIRECTORY"] = own  # of services and of agents
    variables.update(environment or {})
    return variables


class Process:
    """A running program whose standard error (and output, unless taken) is collected line by line."""

    def __init__(self, arguments, environment=None, namespace=None, stdin=subprocess.DEVNULL, stdout=None, cwd=None, limits=None):
        self.arguments = [str(argument) for argument in arguments]
        if namespace is not None:
            self.arguments = namespace.prefix + self.arguments
        variables = surroundings(environment)
        self.lines = []
        self._arrived = threading.Condition()
        self._ended = False
        self.child = subprocess.Popen(
            self.arguments, stdin=stdin, stdout=stdout if stdout is not None else subprocess.PIPE,
            stderr=subprocess.PIPE if stdout is not None else subprocess.STDOUT, env=variables, cwd=cwd, start_new_session=own_sessions,
            preexec_fn=limits or modest)
        self._log = self.child.stderr if stdout is not None else self.child.stdout
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    @property
    def pid(self):
        return self.child.pid

    @property
    def log(self):
        return "\n".join(self.lines)

    def _collect(self):
        for raw in self._log:
            with self._arrived:
                self.lines.append(raw.decode(errors="replace").rstrip("\n"))
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def wait_line(self, pattern, seconds=15.0, after=0):
        """The match of the first line from number `after` on in which `pattern` is found."""
        expression = re.compile(pattern)
        deadline = time.monotonic() + seconds
        position = after
        with self._arrived:
            while True:
                while position < len(self.lines):
                    match = expression.search(self.lines[position])
                    if match:
                        return match
                    position += 1
                remaining = deadline - time.monotonic()
                if self._ended or remaining <= 0:
                    raise AssertionError(f"no line like {pattern!r} from {' '.join(self.arguments)}:\n{self.log}")
                self._arrived.wait(remaining)

    def has_line(self, pattern):
        return any(re.search(pattern, line) for line in list(self.lines))

    def running(self):
        return self.child.poll() is None

    def wait(self, seconds=20.0):
        """The exit status, negative for a signal."""
        try:
            status = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{' '.join(self.arguments)} did not end in {seconds} s:\n{self.log}") from None
        self._reader.join(5)
        return status

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        """Dies without a word."""
        if self.running():
            self.child.kill()
        self.child.wait(10)

    def stop(self, seconds=20.0):
        """Ends in good order; by force when it does not."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait(10)
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            if pipe is not None and pipe is not self._log:
                pipe.close()
        self._reader.join(5)
        if not self._reader.is_alive():
            self._log.close()
        return self.child.returncode

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _status(self, name):
        with open(f"/proc/{self.pid}/status") as file:
            for line in file:
                if line.startswith(name + ":"):
                    return int(line.split()[1]) * 1024
        return 0

    def resident(self):
        """Bytes of memory in use."""
        return self._status("VmRSS")

    def anonymous(self):
        """Bytes of memory in use that are no file's."""
        return self._status("RssAnon")

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


def run(arguments, environment=None, namespace=None, seconds=60, stdin=None, check=None, cwd=None, binary=False):
    """Runs a program to its end. `check` is the exit status it must have."""
    words = [str(argument) for argument in arguments]
    if namespace is not None:
        words = namespace.prefix + words
    variables = surroundings(environment)
    source = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    result = subprocess.run(words, env=variables, capture_output=True, timeout=seconds, cwd=cwd, text=not binary, **source)
    if check is not None:
        assert result.returncode == check, f"{' '.join(words)}: exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result
