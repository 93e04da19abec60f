"""The C tools that move the bytes, compiled when they are older than their sources."""

import json
import pathlib
import shutil
import subprocess
import tempfile

from .processes import bound

SOURCES = pathlib.Path(__file__).resolve().parents[1] / "tools"
PROGRAMS = {"load": ("load.c", "ends.c", "weigh.c"), "pump": ("pump.c",), "delay": ("delay.c",), "devices": ("devices.c", "weigh.c"),
            "handshakes": ("handshakes.c", "weigh.c")}


class Failure(RuntimeError):
    """A measurement that did not come to its end."""


class Tools:
    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            raise SystemExit("bench: no C compiler: install gcc or clang")
        for name, sources in PROGRAMS.items():
            files = [SOURCES / one for one in sources]
            made = self.directory / name
            newest = max(one.stat().st_mtime for one in SOURCES.iterdir())
            if not made.exists() or made.stat().st_mtime < newest:
                subprocess.run(
                    [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, *files, "-lssl", "-lcrypto", "-lpthread"],
                    check=True)

    def path(self, name):
        return self.directory / name

    def devices(self, *arguments, seconds=300.0):
        """One measurement with devices that publish; what `devices` says, as a dictionary."""
        return self._said("devices", "publish", arguments, seconds)

    def handshakes(self, mode, *arguments, seconds=60.0):
        """One measurement of handshakes; what `handshakes` says, as a dictionary."""
        return self._said("handshakes", mode, arguments, seconds)

    def _said(self, tool, mode, arguments, seconds):
        words = [str(self.path(tool)), mode, *map(str, arguments)]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, preexec_fn=bound, check=False)
        if done.returncode != 0:
            raise Failure(done.stderr.strip() or f"{tool}: exit {done.returncode}")
        return json.loads(done.stdout)

    def load(self, mode, *arguments, descriptors=(), seconds=60.0):
        """One measurement; what `load` says, as a dictionary."""
        words = [str(self.path("load")), mode, *map(str, arguments)]
        with tempfile.TemporaryFile() as errors:
            try:
                done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, pass_fds=descriptors,
                                      timeout=seconds, preexec_fn=bound)
            except subprocess.TimeoutExpired:
                raise Failure(f"{mode} did not end in {seconds:.0f} s") from None
            errors.seek(0)
            if done.returncode != 0:
                raise Failure(errors.read().decode(errors="replace").strip() or f"{mode}: exit {done.returncode}")
        return json.loads(done.stdout)
