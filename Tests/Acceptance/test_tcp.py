"""Any TCP service of a device: web, passive FTP, who speaks first, who ends first, how many, how slow."""

import concurrent.futures
import contextlib
import ftplib
import hashlib
import io
import os
import socket
import struct
import threading
import time

import pytest
from harness import waiting
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, echo, free_ports, receive_all, receive_exactly
from harness.rest import path


def bridge(hub, keep, server, options=(), specification="0:it"):
    """A device with one server behind its agent, and a forward to it."""
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, specification, options=options))
    return device, agent, forward


def no_streams(hub, device=None):
    def none():
        return not [one for one in hub.rest("GET", path("streams")).json if device is None or one["deviceId"] == device.name]

    waiting.until(none, 20, "the end of every stream")


# --- web ----------------------------------------------------------------------------------------------------------


WEB = """
import http.server, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        body = (self.path * 500).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True
server = Server(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def web(keep):
    made = keep(Process(["python3", "-c", WEB]))
    made.port = int(made.wait_line(r"port (\d+)")[1])
    return made


def test_two_hundred_parallel_requests_of_curl(hub, keep, web, tmp_path):
    _, _, forward = bridge(hub, keep, web)
    base = f"http://127.0.0.1:{forward.first}/page"
    result = run(["curl", "-sS", "--no-progress-meter", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "200",
                  f"{base}[1-200]", "-o", tmp_path / "out#1", "-w", "%{num_connects}\n"], seconds=90, check=0)
    assert result.stdout.split() == ["1"] * 200
    for number in range(1, 201):
        assert (tmp_path / f"out{number}").read_text() == f"/page{number}" * 500


def test_keep_alive_reuses_one_stream(hub, keep, web, tmp_path):
    device, _, forward = bridge(hub, keep, web)
    result = run(["curl", "-sS", "--fail", f"http://127.0.0.1:{forward.first}/k[1-100]", "-o", tmp_path / "out#1", "-w", "%{num_connects}\n"],
                 seconds=60, check=0)
    assert result.stdout.split() == ["1"] + ["0"] * 99
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    run(["curl", "-sS", "--fail", "--data-binary", f"@{tmp_path}/data", "-o", tmp_path / "back", f"http://127.0.0.1:{forward.first}/up"], check=0)
    assert (tmp_path / "back").read_bytes() == data
    no_streams(hub, device)


# --- FTP ----------------------------------------------------------------------------------------------------------


FTP = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer
root, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
authorizer = DummyAuthorizer()
authorizer.add_user("user", "pass", root, perm="elradfmwMT")
class Handler(FTPHandler):
    passive_ports = range(first + 1, last + 1)
Handler.authorizer = authorizer
server = ThreadedFTPServer(("127.0.0.1", first), Handler)
print("serving", flush=True)
server.serve_forever()
"""


def test_passive_ftp_with_a_range_of_ports(hub, keep, tmp_path):
    """The server tells the client a port; the same number leads there on the client's side."""
    import sys
    count = 10
    base = free_ports(count + 1)
    local = "127.0.0.2"
    keep(Process([sys.executable, "-c", FTP, tmp_path, base, base + count])).wait_line("serving")
    device = hub.create()
    keep(Agent(hub, device, f"{base}-{base + count}"))
    forward = keep(Forward(hub, device, f"{base}-{base + count}", options=["--bind", local]))
    assert forward.ports == {str(port): port for port in range(base, base + count + 1)}
    for _ in range(2):
        with ftplib.FTP(timeout=20) as client:
            client.connect(local, base)
            client.login("user", "pass")
            client.set_pasv(True)
            client.trust_server_pasv_ipv4_address = False  # 127.0.0.1 is the device's own
            for number in range(5):
                data = os.urandom(300_000)
                client.storbinary(f"STOR file{number}", io.BytesIO(data))
                assert (tmp_path / f"file{number}").read_bytes() == data
                back = bytearray()
                client.retrbinary(f"RETR file{number}", back.extend)
                assert bytes(back) == data
            assert sorted(client.nlst()) == [f"file{number}" for number in range(5)]


# --- ends of connections ------------------------------------------------------------------------------------------


def test_a_server_that_speaks_first(hub, keep):
    def greet(connection):
        connection.sendall(b"220 ready\r\n")
        assert connection.recv(100) == b"QUIT\r\n"
        connection.sendall(b"221 bye\r\n")

    _, _, forward = bridge(hub, keep, keep(Server(greet)))
    for _ in range(20):
        with forward.connect() as client:
            assert receive_exactly(client, 11) == b"220 ready\r\n"
            client.sendall(b"QUIT\r\n")
            assert receive_all(client) == b"221 bye\r\n"


def test_a_client_that_ends_its_half_and_waits_for_the_answer(hub, keep):
    def digest(connection):
        connection.sendall(hashlib.sha256(receive_all(connection)).hexdigest().encode())

    server = keep(Server(digest))
    device, _, forward = bridge(hub, keep, server)
    for size in (0, 1, 100_000, 5_000_000):
        data = os.urandom(size)
        with forward.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == hashlib.sha256(data).hexdigest().encode()
    assert not server.failures
    no_streams(hub, device)


def test_a_server_that_ends_its_half_and_waits(hub, keep):
    received = []

    def push(connection):
        connection.sendall(b"all I have")
        connection.shutdown(socket.SHUT_WR)
        received.append(receive_all(connection))

    device, _, forward = bridge(hub, keep, keep(Server(push)))
    with forward.connect() as client:
        assert receive_all(client) == b"all I have"
        for _ in range(10):
            client.sendall(b"and still " * 1000)
    waiting.until(lambda: received, 10)
    assert received == [b"and still " * 10000]
    no_streams(hub, device)


def test_connect_carries_a_half_close(hub, keep):
    def digest(connection):
        connection.sendall(hashlib.sha256(receive_all(connection)).hexdigest().encode())

    device = hub.create()
    server = keep(Server(digest))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    data = os.urandom(3_000_000)
    result = run([hub.binary, "connect", device.name, "it", "--ca", hub.ca], {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()},
                 stdin=data, binary=True, check=0)
    assert result.stdout == hashlib.sha256(data).hexdigest().encode()


def test_forward_ends_when_it_is_told_to(hub, keep):
    _, _, forward = bridge(hub, keep, keep(Server(echo)))
    assert forward.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        forward.connect()


def test_a_refused_port_a_port_that_is_not_allowed_and_a_device_that_is_away(hub, keep):
    """The local connection ends at once, and one line says why."""
    server = keep(Server(echo))
    device, absent = hub.create(), hub.create()
    refusing = free_ports()
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", f"shut=127.0.0.1:{refusing}"))
    for target, remote, reason in [(device, "shut", "refused"), (device, "hidden", "allow"), (device, "4444", "allow"), (absent, "it", "offline"),
                                   ("nobody", "it", "no such device")]:
        forward = keep(Forward(hub, target, f"0:{remote}"))
        started = time.monotonic()
        lines = len(forward.process.lines)
        with forward.connect() as client:
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(10) == b""
        assert time.monotonic() - started < 3
        forward.process.wait_line(rf"(?i)iotstream forward: .*({reason})", 5, after=lines)
        assert len(forward.process.lines) == lines + 1, forward.process.log
    assert server.accepted == 0


def test_connect_says_why_it_failed_and_exits(hub, keep):
    device, absent = hub.create(), hub.create()
    keep(Agent(hub, device, "it=127.0.0.1:1"))
    for target, remote, statuses, reason in [(device.name, "it", (1,), "refused"), (device.name, "x", (1,), "allow"),
                                             (absent.name, "it", (1, 69, 75), "offline"), ("nobody", "it", (1, 66), "no such device")]:
        result = run([hub.binary, "connect", target, remote, "--ca", hub.ca], {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()})
        assert result.returncode in statuses and result.stdout == "", result
        assert result.stderr.startswith("iotstream connect: ") and reason in result.stderr.lower() and result.stderr.count("\n") == 1


# --- local ports --------------------------------------------------------------------------------------------------


def test_local_ports(hub, keep):
    first, second = keep(Server(echo)), keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"one=127.0.0.1:{first.port}", f"two=127.0.0.1:{second.port}", f"22=127.0.0.1:{first.port}", second.port))
    explicit = free_ports()
    forward = keep(Forward(hub, device, f"{explicit}:one", "0:two", "22", "0:" + str(second.port)))
    assert forward.ports["one"] == explicit
    taken = forward.ports["22"]
    for name in forward.ports:
        with forward.connect(name) as client:
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"
    if taken == 2222:  # a default that is taken gives way
        assert keep(Forward(hub, device, "22")).ports["22"] != 2222
    result = run([hub.binary, "forward", device.name, f"{explicit}:one", "--ca", hub.ca],
                 {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, seconds=20)
    assert result.returncode == 73 and str(explicit) in result.stderr


def test_a_module_is_reached_by_its_name(hub, keep):
    device = hub.create()
    module = hub.create(device.name, "camera")
    server = keep(Server(echo))
    keep(Agent(hub, module, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it", options=["--module", "camera"], wait=False))
    port = int(forward.process.wait_line(r"127\.0\.0\.1:(\d+) -> ")[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"


@pytest.mark.parametrize("mode", ["auto", "websocket"])
def test_modes(hub, keep, mode):
    server = keep(Server(echo))
    _, _, forward = bridge(hub, keep, server, ["--mode", mode])
    data = os.urandom(2_000_000)
    with forward.connect() as client:
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        assert receive_exactly(client, len(data)) == data


# --- many, slow ---------------------------------------------------------------------------------------------------


@pytest.fixture
def crowd(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device, agent, forward = bridge(hub, keep, server)
    for _ in range(20):
        with forward.connect() as client:
            client.sendall(b"warm")
            receive_exactly(client, 4)
    no_streams(hub)
    waiting.until(lambda: server.open == 0)
    return hub, server, agent, forward


def counts(hub, agent, forward):
    return [process.descriptors() for process in (hub.process, agent.process, forward.process)]


def readers(hub):
    """Slots that LMDB readers hold."""
    import glob
    total = 0
    for name in glob.glob(f"{hub.state}/**/lock.mdb", recursive=True):
        with open(name, "rb") as file:
            data = file.read()
        # The head of the table is two cache lines; a slot of 64 bytes starts with a transaction's number, all ones when idle.
        for at in range(128, len(data) - 63, 64):
            transaction, pid = struct.unpack_from("<QI", data, at)
            total += pid == hub.process.pid and transaction not in (0, 2**64 - 1)
    return total


def test_a_thousand_streams_at_once(crowd):
    hub, server, agent, forward = crowd
    before, memory = counts(hub, agent, forward), hub.process.resident()
    clients = []
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        def dial(number):
            client = forward.connect(seconds=60)
            client.sendall(b"%08d" % number)
            assert receive_exactly(client, 8) == b"%08d" % number
            return client

        clients = list(pool.map(dial, range(1000)))
    assert server.open == 1000
    assert len(hub.rest("GET", path("streams")).json) == 1000
    grown = hub.process.resident() - memory
    assert grown < 160 << 20, f"{grown / 1000} bytes for one idle stream"
    for number, client in enumerate(clients):
        client.sendall(b"again%03d" % (number % 1000))
    for number, client in enumerate(clients):
        assert receive_exactly(client, 8) == b"again%03d" % (number % 1000)
    for client in clients:
        client.close()
    no_streams(hub)
    waiting.until(lambda: server.open == 0, 20)
    waiting.until(lambda: all(now <= then + 4 for now, then in zip(counts(hub, agent, forward), before)), 20, "the descriptors' return")
    assert readers(hub) == 0
    # A second crowd needs no more than the first did.
    peak = hub.process.resident()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        clients = list(pool.map(dial, range(1000)))
    assert hub.process.resident() - max(peak, memory + grown) < 16 << 20
    for client in clients:
        client.close()
    no_streams(hub)


def test_ten_thousand_streams_in_sequence(crowd):
    hub, server, agent, forward = crowd

    def one(number):
        with forward.connect(seconds=60) as client:
            client.sendall(b"%08d" % number)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"%08d" % number

    def run_through(count):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in pool.map(one, range(count)):
                pass
        no_streams(hub)
        waiting.until(lambda: server.open == 0, 20)

    run_through(1000)
    before = counts(hub, agent, forward)
    memory = [process.resident() for process in (hub.process, agent.process, forward.process)]
    run_through(9000)
    waiting.until(lambda: all(now <= then + 4 for now, then in zip(counts(hub, agent, forward), before)), 20, "the descriptors' return")
    for name, then, process in zip(("hub", "agent", "forward"), memory, (hub.process, agent.process, forward.process)):
        assert process.resident() - then < 6 << 20, f"{name} grew from {then} to {process.resident()}"
    assert readers(hub) == 0
    assert hub.process.threads() < 40


@pytest.mark.parametrize("direction", ["to the device", "to the service"])
def test_a_slow_reader_stalls_its_own_stream_only(new_hub, keep, direction):
    hub = new_hub()
    hold = threading.Event()

    def stuck(connection):
        if direction == "to the device":
            hold.wait(60)
            connection.sendall(hashlib.sha256(receive_all(connection)).digest())
        else:
            digest = hashlib.sha256()
            for _ in range(256):
                piece = os.urandom(1 << 20)
                digest.update(piece)
                connection.sendall(piece)
            sums.append(digest.digest())

    sums = []
    slow, quick = keep(Server(stuck)), keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"slow=127.0.0.1:{slow.port}", f"quick=127.0.0.1:{quick.port}"))
    forward = keep(Forward(hub, device, "0:slow", "0:quick"))
    memory = [process.resident() for process in (hub.process, agent.process, forward.process)]
    client = forward.connect("slow")
    sent = hashlib.sha256()
    total = 0
    if direction == "to the device":
        client.settimeout(2)
        piece = os.urandom(1 << 16)
        try:
            while total < 256 << 20:
                count = client.send(piece)
                sent.update(piece[:count])
                total += count
        except TimeoutError:
            pass
        assert total < 256 << 20, "nothing held the sender back"
        client.settimeout(60)
    else:
        # Sixteen megabytes in flight would show in somebody's memory.
        waiting.until(lambda: hub.rest("GET", path("streams")).json, 10)
        previous = [-1]

        def standing():
            now = [one["bytesToService"] for one in hub.rest("GET", path("streams")).json]
            same, previous[:] = now == previous, now
            time.sleep(0.5)
            return same and now[0] > 0

        waiting.until(standing, 30, "the stall")
    for _ in range(50):
        started = time.monotonic()
        with forward.connect("quick") as other:
            other.sendall(b"quick")
            assert receive_exactly(other, 5) == b"quick"
        assert time.monotonic() - started < 2
    for name, then, process in zip(("hub", "agent", "forward"), memory, (hub.process, agent.process, forward.process)):
        assert process.resident() - then < 12 << 20, f"{name} grew from {then} to {process.resident()}"
    hold.set()
    if direction == "to the device":
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == sent.digest()
    else:
        got = hashlib.sha256()
        client.settimeout(60)
        while piece := client.recv(1 << 20):
            got.update(piece)
        assert sums == [got.digest()]
    client.close()


# --- quality bars -------------------------------------------------------------------------------------------------


def test_memory_when_idle(new_hub, keep):
    hub = new_hub()
    device = hub.create()
    agent = keep(Agent(hub, device, 22))
    assert hub.process.resident() <= 20 << 20, hub.process.resident()
    assert agent.process.resident() <= 12 << 20, agent.process.resident()
    assert agent.process.anonymous() <= 4 << 20, agent.process.anonymous()
