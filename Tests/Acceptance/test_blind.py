"""Streams between our own end points, in every mode: what goes through them, how they end, and what stands in their way."""

import hashlib
import os
import socket
import threading

import pytest
from harness import tls, waiting
from harness.middlebox import Cutter, Interceptor
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, echo, receive_all, receive_exactly
from harness.rest import path

#: Bytes each way for each size of write; 2500000000 makes 10 GB in each mode.
VOLUME = int(os.environ.get("IOTSTREAM_TRANSFER_BYTES", 6_000_000))
MODES = pytest.mark.parametrize("mode", ["auto", "blind", "websocket"])
BLOCK = os.urandom(1 << 20)


def lay(hub, keep, server, mode="auto", agent_options=(), options=(), environment=None):
    """A device with one server behind its agent, and a forward to it in some mode."""
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", options=agent_options))
    forward = keep(Forward(hub, device, "0:it", options=["--mode", mode, "-v", *options], environment=environment))
    return device, agent, forward


def streams(hub, device):
    return [one for one in hub.rest("GET", path("streams")).json if one["deviceId"] == device.name]


def no_streams(hub, device):
    waiting.until(lambda: not streams(hub, device), 20, "the end of every stream")


def mode_word(mode):
    return "e2e" if mode == "websocket" else "blind"


# --- what goes through --------------------------------------------------------------------------------------------


def send_in_pieces(connection, total, size):
    """Sends `total` bytes in writes of `size`; their SHA-256. One-byte writes are real ones: nothing gathers them."""
    digest, left, block = hashlib.sha256(), total, memoryview(BLOCK)
    while left > 0:
        piece = block[:min(size, left)]
        connection.sendall(piece)
        digest.update(piece)
        left -= len(piece)
        block = block[1:] if len(block) > size + 1 else memoryview(BLOCK)
    connection.shutdown(socket.SHUT_WR)
    return digest.hexdigest()


def hash_all(connection):
    digest, count = hashlib.sha256(), 0
    buffer = bytearray(1 << 20)
    while read := connection.recv_into(buffer):
        digest.update(memoryview(buffer)[:read])
        count += read
    return digest.hexdigest(), count


@MODES
@pytest.mark.parametrize("size", [1, 63 << 10, (64 << 10) + 1, 1 << 20])
def test_both_ways_at_once_in_writes_of_any_size(hub, keep, mode, size):
    total = VOLUME if size > 1 else min(VOLUME // 50, 20_000_000)
    far = {}

    def both(connection):
        sender = threading.Thread(target=lambda: far.update(sent=send_in_pieces(connection, total, size)))
        sender.start()
        far["received"] = hash_all(connection)
        sender.join()

    server = keep(Server(both))
    device, _, forward = lay(hub, keep, server, mode)
    with forward.connect(seconds=600) as client:
        near = {}
        sender = threading.Thread(target=lambda: near.update(sent=send_in_pieces(client, total, size)))
        sender.start()
        received = hash_all(client)
        sender.join()
    waiting.until(lambda: "received" in far and "sent" in far, 60)
    assert received == (far["sent"], total)
    assert far["received"] == (near["sent"], total)
    assert not server.failures
    forward.process.wait_line(f"event=stream-closed .*mode={mode_word(mode)} reason=done sent={total} received={total}")
    no_streams(hub, device)


@MODES
def test_the_hub_lists_the_mode(hub, keep, mode):
    device, agent, forward = lay(hub, keep, keep(Server(echo)), mode)
    with forward.connect() as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        listed = streams(hub, device)
        assert [(one["mode"], one["endToEnd"]) for one in listed] == [("websocket" if mode == "websocket" else "blind", True)]
    agent.process.wait_line(f"event=stream-closed .*mode={mode_word(mode)} reason=done")


@MODES
def test_half_closes(hub, keep, mode):
    def digest(connection):
        connection.sendall(hashlib.sha256(receive_all(connection)).hexdigest().encode())

    device, _, forward = lay(hub, keep, keep(Server(digest)), mode)
    for size in (0, 1, 100_000, 3_000_000):
        data = os.urandom(size)
        with forward.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == hashlib.sha256(data).hexdigest().encode()
    no_streams(hub, device)


@MODES
def test_a_server_that_speaks_and_ends_first(hub, keep, mode):
    received = []

    def push(connection):
        connection.sendall(b"all I have")
        connection.shutdown(socket.SHUT_WR)
        received.append(receive_all(connection))

    device, _, forward = lay(hub, keep, keep(Server(push)), mode)
    with forward.connect() as client:
        assert receive_all(client) == b"all I have"
        client.sendall(b"and still " * 10_000)
    waiting.until(lambda: received, 10)
    assert received == [b"and still " * 10_000]
    no_streams(hub, device)


@MODES
@pytest.mark.parametrize("data", [b"", b"x" * 300_000], ids=["empty", "much"])
def test_connect_is_a_pipe(hub, keep, mode, data):
    device = hub.create()
    server = keep(Server(echo))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    result = run([hub.binary, "connect", device.name, "it", "--ca", hub.ca, "--mode", mode],
                 {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}, stdin=data, binary=True, check=0)
    assert result.stdout == data
    no_streams(hub, device)


def test_the_mode_can_be_configured(hub, keep, tmp_path):
    configuration = tmp_path / "forward.conf"
    configuration.write_text("mode websocket\n")
    device = hub.create()
    server = keep(Server(echo))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it", options=["--config", configuration, "-v"]))
    with forward.connect() as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
    forward.process.wait_line("event=stream-opened .*mode=e2e")
    configuration.write_text("mode carrier-pigeon\n")
    result = run([hub.binary, "forward", device.name, "0:it", "--ca", hub.ca, "--config", configuration])
    assert result.returncode == 78 and "forward.conf:1: mode" in result.stderr


# --- how streams end ----------------------------------------------------------------------------------------------


def greet(connection, seen):
    """Says ready, and notes what comes then: bytes, or "reset"."""
    connection.sendall(b"ready")
    try:
        seen.append(connection.recv(10))
    except ConnectionResetError:
        seen.append("reset")


@MODES
def test_resets_are_resets_at_the_other_end(hub, keep, mode):
    seen = []

    def handler(connection):
        if connection.recv(5) == b"kill!":
            tls.reset_on_close(connection)
        else:
            greet(connection, seen)

    device, _, forward = lay(hub, keep, keep(Server(handler)), mode)
    with forward.connect() as client:
        client.sendall(b"kill!")
        with pytest.raises(ConnectionResetError):
            client.recv(10)
    client = forward.connect()
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"ready"
    tls.reset_on_close(client)
    client.close()
    waiting.until(lambda: seen, 10)
    assert seen == ["reset"]
    no_streams(hub, device)


@MODES
@pytest.mark.parametrize("who", ["agent", "forward", "hub"])
def test_the_death_of_a_program_is_no_orderly_end(new_hub, keep, mode, who):
    hub = new_hub()
    seen = []
    _, agent, forward = lay(hub, keep, keep(Server(lambda connection: greet(connection, seen))), mode)
    with forward.connect() as client:
        assert receive_exactly(client, 5) == b"ready"
        {"agent": agent, "forward": forward, "hub": hub}[who].process.kill()
        if who != "forward":
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        if who != "agent":
            waiting.until(lambda: seen, 10)
            assert seen == ["reset"]


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "end"])
@pytest.mark.parametrize("whose", ["agent", "forward"])
def test_a_leg_that_breaks_anywhere_hurts_its_own_stream_only(hub, keep, whose, resets):
    """Cut behind any number of bytes: either the stream comes about all the same, or the local connection ends; nothing hangs."""
    cutter = keep(Cutter(hub))
    cutter.resets = resets
    sides = {"agent_options": cutter.options} if whose == "agent" else {"options": cutter.options}
    device, agent, forward = lay(hub, keep, keep(Server(echo)), "auto", **sides)

    def once():
        with forward.connect(seconds=60) as client:
            try:
                client.sendall(b"x" * 5000)
                return receive_exactly(client, 5000) == b"x" * 5000
            except (ConnectionError, EOFError):
                return False

    assert once()
    # A device whose leg never gets as far as the hub is waited for, which takes its time.
    early = (0, 1, 300, 700, 1200, 1600, 1700, 1800, 2000, 2200) if whose == "forward" else (1000,) if resets else ()
    for limit in (*early, 2400, 2600, 2800, 3000, 3500, 4000, 5000, 7000):
        cutter.limit = limit
        once()
        cutter.limit = None
        waiting.until(once, 30, "a stream again")
    assert forward.process.running() and agent.process.running()
    agent.process.kill()  # it would wait for what it was promised


@MODES
def test_a_stalled_reader_among_many_streams(hub, keep, mode):
    hold = threading.Event()

    def stuck(connection):
        hold.wait(60)
        connection.sendall(hashlib.sha256(receive_all(connection)).digest())

    slow, quick = keep(Server(stuck)), keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"slow=127.0.0.1:{slow.port}", f"quick=127.0.0.1:{quick.port}"))
    forward = keep(Forward(hub, device, "0:slow", "0:quick", options=["--mode", mode]))
    stalled = forward.connect("slow")
    stalled.settimeout(1)
    sent, total = hashlib.sha256(), 0
    try:
        while total < 256 << 20:
            count = stalled.send(BLOCK)
            sent.update(BLOCK[:count])
            total += count
    except TimeoutError:
        pass
    assert total < 256 << 20, "nothing held the sender back"
    failures = []

    def busy():
        try:
            with forward.connect("quick", seconds=60) as client:
                data = os.urandom(500_000)
                threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
                if receive_exactly(client, len(data)) != data:
                    failures.append("wrong bytes")
        except (OSError, EOFError) as error:
            failures.append(error)

    crowd = [threading.Thread(target=busy) for _ in range(100)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert not failures
    hold.set()
    stalled.settimeout(60)
    stalled.shutdown(socket.SHUT_WR)
    assert receive_all(stalled) == sent.digest()
    stalled.close()


# --- what stands in the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose, hangs", [("agent", False), ("forward", False), ("forward", True)], ids=["agent", "forward", "silent"])
def test_a_middlebox_that_looks_into_tls_is_gone_around(hub, keep, tmp_path, whose, hangs):
    box = keep(Interceptor(hub, hangs))
    sides = {"agent_options": box.options} if whose == "agent" else {"options": box.options}
    own = {"IOTSTREAM_IDENTITY": str(tmp_path / "identity")}
    device, agent, forward = lay(hub, keep, keep(Server(echo)), "auto", environment=own, **sides)
    for _ in range(3):
        with forward.connect() as client:
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"
    forward.process.wait_line("event=stream-closed .*mode=e2e reason=done")
    assert len([line for line in forward.process.lines if "event=blind-failed" in line]) == 1, forward.process.log
    assert forward.process.has_line("event=stream-opened .*mode=e2e") and not forward.process.has_line("mode=blind")
    forward.stop()

    # The next process knows.
    again = keep(Forward(hub, device, "0:it", options=["--mode", "auto", "-v", *sides.get("options", [])], environment=own))
    with again.connect() as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
    again.process.wait_line("event=stream-opened .*mode=e2e")
    assert not again.process.has_line("event=blind-failed")

    # Whoever wants blind or nothing gets nothing, and one line.
    if hangs:
        return
    strict = keep(Forward(hub, device, "0:it", options=["--mode", "blind", *sides.get("options", [])], environment=own))
    with strict.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(5)
    strict.process.wait_line(rf"^iotstream forward: {device.name}:it: no blind stream: ")
    no_streams(hub, device)


def test_a_device_that_cannot_do_blind_gets_no_blind_stream(hub, keep):
    """A device of somebody else's: told about once, refused in blind mode."""
    device = hub.create()
    server = keep(Server(echo))
    gateway = device.listen()
    forward = keep(Forward(hub, device, "0:it", options=["--mode", "blind"]))

    def answer():
        rid = gateway.expect(3).topic.split("$rid=")[1].split("&")[0]
        gateway.publish(f"$iothub/streams/res/200/?$rid={rid}", b"")

    threading.Thread(target=answer, daemon=True).start()
    with forward.connect() as client:
        with pytest.raises(ConnectionResetError):
            client.recv(5)
    forward.process.wait_line(rf"^iotstream forward: {device.name}:it: no blind stream: the hub or the device's agent cannot do it")
    server.stop()
