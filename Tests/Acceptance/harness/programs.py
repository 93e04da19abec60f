"""agent, forward and connect under test, and the servers that stand on a device."""

import os
import pathlib
import re
import shutil
import socket
import tempfile
import threading

from .process import Process, run


class Agent:
    """A device's agent."""

    def __init__(self, hub, device, *allow, options=(), namespace=None, environment=None, wait=True, connection_string=None):
        self.hub, self.device = hub, device
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="iotstream-agent."))
        secret = self.directory / "connection-string"
        secret.write_text((connection_string or device.connection_string) + "\n")
        secret.chmod(0o600)
        self._keep_key()
        arguments = [hub.binary, "agent", "--connection-string-file", secret, "--ca", hub.ca, "--state", self.directory / "state"]
        for one in allow:
            arguments += ["--allow", str(one)]
        self.process = Process([*arguments, *options], environment, namespace)
        if wait:
            self.ready()

    def _keep_key(self):
        """A device has one key, however many agents it has had."""
        self.key = self.directory / "state" / "agent.key"
        earlier = getattr(self.device, "agent_key", None)
        if earlier and earlier.exists():
            self.device.kept_key = earlier.read_bytes()
        if getattr(self.device, "kept_key", None):
            self.key.parent.mkdir(mode=0o700)
            self.key.touch(mode=0o600)
            self.key.write_bytes(self.device.kept_key)
        self.device.agent_key = self.key

    def ready(self, seconds=20.0, after=0):
        return self.process.wait_line(rf"iotstream agent: ready {re.escape(self.device.client)} via ", seconds, after)

    def stop(self):
        status = self.process.stop()
        if self.key.exists():
            self.device.kept_key = self.key.read_bytes()
        shutil.rmtree(self.directory, ignore_errors=True)
        return status


class Forward:
    """A service's forward; `ports` holds the local port of every REMOTE, in the order in which they came up."""

    def __init__(self, hub, device, *specifications, options=(), namespace=None, environment=None, wait=True, connection_string=None):
        self.hub = hub
        self.name = device if isinstance(device, str) else device.name
        environment = {"IOTSTREAM_CONNECTION_STRING": connection_string or hub.connection_string(), **(environment or {})}
        self.process = Process(
            [hub.binary, "forward", self.name, *map(str, specifications), "--ca", hub.ca, *options], environment, namespace)
        self.ports = {}
        if wait:
            for specification in specifications:
                remote = str(specification).rpartition(":")[2]
                for one in expand(remote):
                    self.ports[one] = self.port(one)

    def port(self, remote, seconds=20.0):
        """The local port that is `remote` of the device."""
        line = rf"iotstream forward: \S+?:(\d+) -> {re.escape(self.name)}:{re.escape(str(remote))}$"
        return int(self.process.wait_line(line, seconds)[1])

    @property
    def first(self):
        return next(iter(self.ports.values()))

    def connect(self, remote=None, seconds=20.0):
        # Not with a timeout: then a refusal that comes at once would already be the result of the connecting.
        made = socket.create_connection(("127.0.0.1", self.ports[str(remote)] if remote is not None else self.first), timeout=None)
        made.settimeout(seconds)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def stop(self):
        return self.process.stop()


def expand(remote):
    """The single ports of a range."""
    match = re.fullmatch(r"(\d+)-(\d+)", remote)
    return [str(port) for port in range(int(match[1]), int(match[2]) + 1)] if match else [remote]


def free_ports(count=1):
    """A run of `count` ports that nothing listens on just now."""
    while True:
        held = [socket.socket()]
        held[0].bind(("127.0.0.1", 0))
        start = held[0].getsockname()[1]
        try:
            if start + count > 65000:
                continue
            for port in range(start + 1, start + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
            return start
        except OSError:
            continue
        finally:
            for one in held:
                one.close()


class Server:
    """A TCP server of one handler per connection, in threads: what stands on the device."""

    def __init__(self, handler, backlog=1024, listener=None):
        self.handler = handler
        self.listener = listener or socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.failures = []
        self._open = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.handler(connection)
        except OSError as error:
            self.failures.append(error)
        finally:
            connection.close()
            with self._lock:
                self._open.discard(connection)

    @property
    def open(self):
        with self._lock:
            return len(self._open)

    def stop(self):
        # A thread that sits in accept keeps the socket alive past close.
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def echo(connection):
    """Sends back what comes, and ends when the other side ends."""
    while True:
        data = connection.recv(65536)
        if not data:
            connection.shutdown(socket.SHUT_WR)
            return
        connection.sendall(data)


def receive_exactly(connection, count):
    collected = bytearray()
    while len(collected) < count:
        piece = connection.recv(min(1 << 20, count - len(collected)))
        if not piece:
            raise EOFError(f"{len(collected)} of {count} bytes")
        collected += piece
    return bytes(collected)


def receive_all(connection):
    collected = bytearray()
    while True:
        piece = connection.recv(1 << 20)
        if not piece:
            return bytes(collected)
        collected += piece


class Sshd:
    """A real sshd with its own keys, and a client's configuration for it."""

    def __init__(self, directory, port=None, namespace=None, address="127.0.0.1"):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.makedirs("/run/sshd", exist_ok=True)
        self.port = port or free_ports()
        for name in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name], check=0)
        keys = self.directory / "authorized_keys"
        keys.write_text((self.directory / "user.pub").read_text())
        keys.chmod(0o600)
        configuration = self.directory / "sshd_config"
        configuration.write_text(
            f"ListenAddress {address}\nPort {self.port}\nHostKey {self.directory}/host\nAuthorizedKeysFile {keys}\n"
            f"PidFile {self.directory}/pid\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nStrictModes no\nUsePAM no\n"
            "Subsystem sftp internal-sftp\nMaxStartups 200\nMaxSessions 200\nPrintMotd no\nPrintLastLog no\nAcceptEnv nothing\n")
        self.process = Process(["/usr/sbin/sshd", "-D", "-e", "-f", configuration], namespace=namespace)
        self.process.wait_line("Server listening on")
        self.known = self.directory / "known_hosts"
        public = (self.directory / "host.pub").read_text().split()[:2]
        self.known.write_text("mydevice " + " ".join(public) + "\n")

    def options(self, *more):
        """For ssh, scp, sftp and rsync's -e: this server's key under the name mydevice, our key and nothing of the user's."""
        made = [
            "-F", "none", "-i", str(self.directory / "user"), "-o", f"UserKnownHostsFile={self.known}", "-o", "HostKeyAlias=mydevice", "-o",
            "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "CheckHostIP=no", "-o", "LogLevel=ERROR",
        ]
        for option in more:
            made += ["-o", option]
        return made

    def stop(self):
        self.process.stop()
