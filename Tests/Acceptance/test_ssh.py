"""A person reaches a device: real sshd, ssh, scp, sftp and rsync through the hub."""

import hashlib
import os
import shlex
import socket
import subprocess
import threading
import time

import pytest
from harness import waiting
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, Sshd, echo, free_ports, receive_exactly

GIBIBYTE = 1 << 30


@pytest.fixture(scope="module")
def ground(hub, tmp_path_factory):
    """A device with sshd behind an agent, and a forward to it."""

    class Ground:
        pass

    made = Ground()
    made.hub = hub
    made.directory = tmp_path_factory.mktemp("ssh")
    made.sshd = Sshd(made.directory / "sshd")
    made.device = hub.create("mydevice")
    made.agent = Agent(hub, made.device, f"22=127.0.0.1:{made.sshd.port}")
    made.forward = Forward(hub, made.device, "0:22")
    # What connect says of a new key stands on standard error, so the key is known beforehand.
    made.environment = {
        "IOTSTREAM_CONNECTION_STRING": hub.connection_string(), "IOTSTREAM_IDENTITY": str(made.directory / "identity")}
    run([hub.binary, "connect", "mydevice", "22", "--ca", hub.ca], made.environment, stdin="", check=0)
    yield made
    made.forward.stop()
    made.agent.stop()
    made.sshd.stop()


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """One gibibyte that nothing can compress, and its SHA-256."""
    target = tmp_path_factory.mktemp("big") / "file"
    digest = hashlib.sha256()
    with open(target, "wb") as file:
        for _ in range(64):
            piece = os.urandom(GIBIBYTE // 64)
            digest.update(piece)
            file.write(piece)
    yield target, digest.hexdigest()
    target.unlink()


def sha256(target):
    with open(target, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def through_forward(ground):
    return ["-p", str(ground.forward.first), *ground.sshd.options()], "root@127.0.0.1"


def through_connect(ground):
    command = f"ProxyCommand={shlex.quote(ground.hub.binary)} connect %h %p --ca {shlex.quote(str(ground.hub.ca))}"
    return ["-p", "22", *ground.sshd.options(command)], "root@mydevice"


WAYS = pytest.mark.parametrize("way", [through_forward, through_connect])


@WAYS
def test_ssh_runs_a_command(ground, way):
    options, target = way(ground)
    result = run(["ssh", *options, target, "echo out; echo err >&2; cat; exit 7"], ground.environment, stdin="from here")
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\nfrom here", "err\n")


def test_iotstream_ssh(ground):
    result = run([ground.hub.binary, "ssh", "--ca", ground.hub.ca, "root@mydevice", *ground.sshd.options(), "echo", "hello; exit 3"],
                 ground.environment)
    assert (result.returncode, result.stdout) == (3, "hello\n"), result


def test_iotstream_ssh_goes_to_the_port_that_ssh_is_told(ground):
    words = [ground.hub.binary, "ssh", "--ca", ground.hub.ca]
    options = [*ground.sshd.options(), "-p", "23", "true"]
    assert "mydevice:23: rejected: port 23 is not allowed" in run([*words, "root@mydevice", *options], ground.environment, check=255).stderr
    assert run([*words, "--remote-port", "22", "root@mydevice", *options], ground.environment).returncode == 0


@WAYS
def test_a_terminal(ground, way):
    """`ssh -t`: what is typed comes back, and the shell ends."""
    options, target = way(ground)
    shell = Process(["ssh", "-tt", *options, target, "sh"], ground.environment, stdin=subprocess.PIPE)
    try:
        shell.child.stdin.write(b"expr 6 '*' 7\n")
        shell.child.stdin.flush()
        shell.wait_line(r"^(# )?42\r?$")
        shell.child.stdin.write(b"exit 5\n")
        shell.child.stdin.flush()
        assert shell.wait(20) == 5
    finally:
        shell.stop()


@WAYS
def test_sftp_and_rsync_both_ways(ground, way, tmp_path):
    options, target = way(ground)
    here, there, back = tmp_path / "here", tmp_path / "there", tmp_path / "back"
    for directory in (here, there, back):
        directory.mkdir()
    for number in range(200):
        (here / f"f{number}").write_bytes(os.urandom(number * 50))
    command = "ssh " + " ".join(map(shlex.quote, options))
    run(["rsync", "-a", "--checksum", "-e", command, f"{here}/", f"{target}:{there}/"], ground.environment, check=0)
    run(["rsync", "-a", "--checksum", "-e", command, f"{target}:{there}/", f"{back}/"], ground.environment, check=0)
    for number in range(200):
        assert (back / f"f{number}").read_bytes() == (here / f"f{number}").read_bytes()
    port = ["-P" if word == "-p" else word for word in options]
    commands = f"put {here}/f199 {there}/sent\nget {there}/sent {back}/got\nls {there}\n"
    run(["sftp", *port, "-b", "-", target], ground.environment, stdin=commands, check=0)
    assert (back / "got").read_bytes() == (here / "f199").read_bytes()


def keystrokes(ground):
    """An interactive session: the time that each of its keys takes to come back."""
    options, target = through_forward(ground)
    shell = subprocess.Popen(["ssh", *options, target, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ,
                                                                                                                   **ground.environment})
    times = []
    stop = threading.Event()

    def type_on():
        number = 0
        while not stop.is_set():
            line = b"key %d\n" % number
            started = time.monotonic()
            shell.stdin.write(line)
            shell.stdin.flush()
            assert shell.stdout.readline() == line
            times.append(time.monotonic() - started)
            number += 1
            stop.wait(0.1)

    thread = threading.Thread(target=type_on)
    thread.start()

    def finish():
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "the interactive session hangs"
        shell.stdin.close()
        assert shell.wait(20) == 0
        shell.stdout.close()
        return times

    return finish


@pytest.mark.parametrize("direction", ["up", "down"])
def test_one_gibibyte_while_somebody_types(ground, big, direction):
    source, digest = big
    target_file = ground.directory / f"copy-{direction}"
    finish = keystrokes(ground)
    before = ground.hub.process.resident()
    if direction == "up":
        options, target = through_forward(ground)
        words = ["scp", "-q", *["-P" if word == "-p" else word for word in options], source, f"{target}:{target_file}"]
    else:
        options, target = through_connect(ground)
        command = "ssh " + " ".join(map(shlex.quote, options))
        words = ["rsync", "--whole-file", "-e", command, f"{target}:{source}", target_file]
    copy, deadline = Process(words, ground.environment), time.monotonic() + 300
    grown = 0
    while copy.running():
        grown = max(grown, ground.hub.process.resident() - before)
        try:
            copy.child.wait(0.5)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, "the copy takes too long"
    assert copy.wait() == 0, copy.log
    copy.stop()
    times = finish()
    assert sha256(target_file) == digest
    target_file.unlink()
    assert len(times) > 5
    ordered = sorted(times)
    assert ordered[-1] < 1.5 and ordered[len(ordered) // 2] < 0.4, ordered[-10:]
    assert grown < 24 << 20, f"the hub grew by {grown} bytes"


def test_ssh_forwards_a_local_port(ground):
    server = Server(echo)
    port = free_ports()
    options, target = through_connect(ground)
    tunnel = Process(["ssh", *options, "-o", "ExitOnForwardFailure=yes", "-N", "-v", "-L", f"127.0.0.1:{port}:127.0.0.1:{server.port}", target],
                     ground.environment)
    try:
        tunnel.wait_line("Local forwarding listening|Entering interactive session")
        data = os.urandom(1 << 20)
        connections = [waiting.until(lambda: dial(port), 10) for _ in range(10)]
        for connection in connections:
            threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
        for connection in connections:
            assert receive_exactly(connection, len(data)) == data
            connection.close()
    finally:
        tunnel.stop()
        server.stop()


def dial(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=20)
    except ConnectionRefusedError:
        return None


def test_ssh_as_a_socks_proxy(ground, tmp_path):
    (tmp_path / "page").write_text("reached through SOCKS\n")
    web = Process(["python3", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", tmp_path])
    port = free_ports()
    options, target = through_forward(ground)
    tunnel = Process(["ssh", *options, "-o", "ExitOnForwardFailure=yes", "-N", "-D", f"127.0.0.1:{port}", target], ground.environment)
    try:
        where = web.wait_line(r"port (\d+)")[1]
        waiting.until(lambda: dial(port), 10).close()
        result = run(["curl", "-sS", "--socks5-hostname", f"127.0.0.1:{port}", f"http://127.0.0.1:{where}/page"], check=0)
        assert result.stdout == "reached through SOCKS\n"
    finally:
        tunnel.stop()
        web.stop()


def test_ten_sessions_at_once(ground):
    options, target = through_forward(ground)
    sessions = [subprocess.Popen(["ssh", *options, target, f"echo {n}; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(10)]
    for number, session in enumerate(sessions):
        assert session.stdout.readline() == b"%d\n" % number
    for session in sessions:
        assert session.communicate(b"end", timeout=20)[0] == b"end"
        assert session.returncode == 0


def test_connect_is_a_pipe(ground):
    """Standard input and output, to the end of both."""
    result = run([ground.hub.binary, "connect", "mydevice", "22", "--ca", ground.hub.ca], ground.environment, stdin="", seconds=20)
    assert result.stdout.startswith("SSH-2.0-")
