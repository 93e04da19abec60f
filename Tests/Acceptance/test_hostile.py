"""What strangers and bad clients do to a hub: nothing of it may stay, and nobody else may notice."""

import concurrent.futures
import gc
import os
import pathlib
import random
import signal
import socket
import struct
import threading
import time

import pytest
from harness import mqtt, tls, waiting, websocket
from harness.rest import path
from harness.streams import Accepted, Opening, Request, open_stream, pair, reply

REQUESTS = ("$iothub/streams/POST/#", "$iothub/streams/res/#")


@pytest.fixture
def hub(new_hub):
    hub = new_hub(options=["--workers", "4"])
    # TLS, registry and log have come to their size before anything is compared.
    device = hub.create("warm")
    with device.listen() as client:
        service, far = pair(hub, device, client)
        service.shut()
        far.close()
    return hub


def plain(hub, port):
    return socket.create_connection((hub.address, port), 10)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def at_rest(hub, descriptors, seconds=20):
    """Waits until nothing is left of what was done."""
    gc.collect()  # connections of clients that failed half-way
    waiting.until(lambda: hub.process.descriptors() <= descriptors, seconds, f"descriptors ({hub.process.descriptors()} of {descriptors})")
    assert hub.rest("GET", path("streams")).json == []
    waiting.until(lambda: not os.listdir(os.path.join(hub.state, "run", "streams")), 5, "the end of the streams' files")
    assert hub.process.running(), hub.process.log
    assert not hub.process.has_line("Sanitizer|Fatal error"), hub.process.log


def works(hub, device):
    with device.listen() as client:
        service, far = pair(hub, device, client)
        service.send(b"still here")
        assert far.bytes(10) == b"still here"
        service.shut()
        far.close()


def test_a_device_that_is_taken_over_again_and_again(hub):
    device, before = hub.create("twin"), hub.process.descriptors()
    count = 150

    def login(number):
        client = hub.mqtt()
        try:
            client.connect(device.client, device.user(), device.token(), clean=bool(number % 2))
            if number % 3 == 0:
                client.subscribe(*REQUESTS)
            return client
        except (OSError, EOFError):
            return client

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        clients = list(pool.map(login, range(count)))
    alive = 0
    for client in clients:
        try:
            client.ping(5)
            alive += 1
        except (OSError, EOFError):
            pass
    assert alive <= 1  # the last one; it too may have been replaced before its answer came
    for client in clients:
        client.close()
    works(hub, device)
    at_rest(hub, before)


def test_one_token_makes_one_leg(hub):
    device, before = hub.create("once"), hub.process.descriptors()
    with device.listen() as client:
        for _ in range(10):
            accepted = open_stream(hub, device, client)

            def attempt(_):
                answer, connection = hub.leg_answer(accepted.request.url, accepted.request.token)
                return answer.status, connection

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(attempt, range(8)))
            assert sorted(status for status, _ in answers) == [101] + [409] * 7
            service = hub.leg(accepted.url, accepted.token)
            service.shut()
            for _, connection in answers:
                connection.close()
    at_rest(hub, before)


def test_swapped_tokens_and_legs_that_go_at_once(hub):
    device, before = hub.create("swap"), hub.process.descriptors()
    with device.listen() as client:
        for number in range(20):
            accepted = open_stream(hub, device, client)
            for url, token in ((accepted.url, accepted.request.token), (accepted.request.url, accepted.token)):
                answer, connection = hub.leg_answer(url, token)
                assert answer.status == 401
                assert connection.ended(5) == b""
                connection.close()
            far = hub.leg(accepted.request.url, accepted.request.token)
            reset(far.socket) if number % 2 else far.close()
            answer, connection = hub.leg_answer(accepted.url, accepted.token)
            assert answer.status in (101, 404)
            connection.close()
    at_rest(hub, before)


@pytest.mark.parametrize("side", ["service", "device"])
def test_a_close_in_the_middle_of_the_peers_frame_is_answered_behind_it(hub, side):
    device = hub.create("middle")
    with device.listen() as client:
        service, far = pair(hub, device, client)
        closer, sender = (service, far) if side == "service" else (far, service)
        whole = websocket.frame(bytes(range(256)) * 256, websocket.BINARY)
        sender.send_raw(whole[:40000])
        way = "bytesToService" if side == "service" else "bytesToDevice"
        waiting.until(lambda: any(stream[way] > 30000 for stream in hub.rest("GET", path("streams")).json), 10, "the first part of the frame")
        closer.send_raw(websocket.close_frame(1000))
        assert sender.receive_close().code == 1000
        sender.send_raw(whole[40000:] + websocket.close_frame(1000))
        got = closer.receive()
        assert got.payload == bytes(range(256)) * 256
        assert closer.receive_close().code == 1000
        assert closer.ended() == b""
        service.close()
        far.close()


def test_streams_that_open_and_break_in_every_way(hub):
    devices = [hub.create(f"crowd{number}") for number in range(4)]
    before, stopped = hub.process.descriptors(), threading.Event()
    owned, lock = {}, threading.Lock()

    def serve(device):
        """Answers every request: yes, no, late, twice; its leg comes early, or never."""
        chance = random.Random(device.name)
        while not stopped.is_set():
            try:
                client = device.listen()
                while not stopped.is_set():
                    request = Request(client.receive(1))
                    with lock:
                        owned[request.rid, device.name] = request
                    way = chance.randrange(8)
                    if way == 0:
                        reply(client, request, 400, "&$reason=no")
                        continue
                    if way == 1:
                        continue
                    leg = None
                    if way < 5:
                        leg = hub.leg(request.url, request.token)
                        leg.send(b"early")
                    reply(client, request)
                    reply(client, request)
                    if leg and way == 2:
                        reset(leg.socket)
                    elif leg and way == 3:
                        leg.send_raw(websocket.frame(b"x" * 5000, websocket.BINARY)[:3000])
                        leg.close()
                    elif leg:
                        leg.send_raw(websocket.close_frame(1000))
                        leg.close()
                    if way == 7:
                        client.close()
                        break
            except (OSError, EOFError, AssertionError):
                pass
            finally:
                try:
                    client.close()
                except (OSError, UnboundLocalError):
                    pass

    def ask(number):
        chance = random.Random(number)
        device = devices[number % len(devices)]
        try:
            opening = Opening(hub, device.name, connect=2, response=1)
            if chance.randrange(6) == 0:
                return opening.close()
            answer = opening.answer(10)
            opening.close()
            if answer.header("iothub-streaming-is-accepted") != "True":
                return
            leg = hub.leg(answer.header("iothub-streaming-url"), answer.header("iothub-streaming-auth-token"))
            for _ in range(chance.randrange(6)):
                leg.send(b"y" * chance.choice([0, 1, 125, 126, 65535, 65536, 70000]))
            way = chance.randrange(4)
            if way == 0:
                reset(leg.socket)
            elif way == 1:
                leg.send_raw(os.urandom(200))
            elif way == 2:
                leg.send_raw(websocket.close_frame())
            leg.close()
        except (OSError, EOFError, AssertionError):
            pass

    def disturb():
        chance = random.Random(0)
        while not stopped.wait(0.05):
            way = chance.randrange(4)
            if way == 0:
                hub.process.signal(signal.SIGHUP)
            elif way == 1:
                for name in os.listdir(os.path.join(hub.state, "run", "streams")):
                    try:
                        os.unlink(os.path.join(hub.state, "run", "streams", name))
                    except OSError:
                        pass
            elif way == 2:
                hub.update(devices[0], status="disabled")
                hub.update(devices[0], status="enabled")
            else:
                for stream in hub.rest("GET", path("streams")).json[:3]:
                    hub.rest("DELETE", path("streams", stream["id"]))

    threads = [threading.Thread(target=serve, args=(device,)) for device in devices] + [threading.Thread(target=disturb)]
    for thread in threads:
        thread.start()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(240)))
    stopped.set()
    for thread in threads:
        thread.join()
    hub.update(devices[0], status="enabled")
    # What waits for a leg that never comes is ended by hand instead of after its minute.
    for stream in hub.rest("GET", path("streams")).json:
        hub.rest("DELETE", path("streams", stream["id"]))
    at_rest(hub, before)
    works(hub, devices[1])


def test_garbage_halves_and_floods_on_each_listener(hub):
    device, before = hub.create("garbage"), hub.process.descriptors()
    chance = random.Random(1)
    for port in (hub.https, hub.mqtts):
        for piece in (b"", b"\x16", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000)):
            connection = plain(hub, port)
            try:
                connection.sendall(piece)
            finally:
                reset(connection) if chance.randrange(2) else connection.close()
        for piece in (
            b"\x10", b"\x10\xff\xff\xff\xff\xff", b"\xf0\x00", b"\x30\x02\x00\x00", b"\x00" * 1000, os.urandom(5000), b"G" * 200_000,
            b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 50_000, b"POST /devices HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n",
            b"GET /bridges/ih/localhost/d/x/sid/" + b"f" * 32 + b"/r/device HTTP/1.1\r\nHost: localhost\r\n\r\n",
            mqtt.connect_packet("garbage", "localhost/garbage/", "no token"), mqtt.connect_packet("garbage", "\u20ac" * 20000, "x"),
        ):
            connection = tls.connect((hub.address, port), hub.ca, "localhost")
            try:
                connection.sendall(piece)
                connection.settimeout(0.5)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
            connection.close()
    works(hub, device)
    at_rest(hub, before)


def test_byte_by_byte_and_pipelined_behind_an_upgrade(hub):
    device = hub.create("slow")
    token = hub.service_token()
    with hub.connect() as connection:
        head = (f"GET /devices/slow?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
                "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for byte in head.encode():
            connection.socket.send(bytes([byte]))
        assert [connection.response().status for _ in range(2)] == [200, 404]
    with hub.connect() as connection:
        upgrade = (f"GET /devices/slow?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\r\n"
                   f"DELETE /devices/nobody?api-version=2021-04-12 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nIf-Match: *\r\n\r\n"
                   "GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n")
        login = mqtt.connect_packet(device.client, device.user(), device.token())
        connection.send(upgrade.encode() + websocket.frame(login[:7], websocket.BINARY) + websocket.frame(login[7:], websocket.BINARY))
        assert [connection.response().status for _ in range(3)] == [200, 404, 101]
        assert connection.take(6) == b"\x82\x04\x20\x02\x00\x00"


def test_a_token_that_never_expires(hub):
    device = hub.create("forever")
    for expiry in (2**63 - 1, 2**63 - 300, 2**60, 2**53):
        client = hub.mqtt()
        assert client.connect(device.client, device.user(), device.token(expiry=expiry))[0] == 0
        client.ping()
        client.close()


def test_a_handshake_has_its_time(new_hub, tmp_path):
    config = tmp_path / "hub.conf"
    config.write_text("handshake-seconds 1\nidle-seconds 2\n")
    hub = new_hub(options=["--config", config])
    waiting.until(lambda: list(pathlib.Path(hub.state, "audit").glob("*.jsonl")), 10, "the audit log's first line")  # has a descriptor
    before = hub.process.descriptors()
    held = [plain(hub, port) for port in (hub.https, hub.mqtts) for _ in range(10)]
    held += [tls.connect((hub.address, port), hub.ca, "localhost") for port in (hub.https, hub.mqtts) for _ in range(3)]
    assert hub.process.descriptors() > before
    waiting.until(lambda: hub.process.descriptors() <= before, 15, "the end of half a handshake")
    for connection in held:
        connection.close()


def test_a_rotated_key_ends_what_it_opened(hub):
    device = hub.create("rotated")
    client = device.listen()
    service, far = pair(hub, device, client)
    hub.admin("device", "rotate-key", "rotated", "--secondary")
    client.ping()
    hub.admin("device", "rotate-key", "rotated")
    client.ended()
    client.close()
    service.send(b"a stream is not its device's connection")
    assert far.bytes(39) == b"a stream is not its device's connection"
    hub.admin("device", "delete", "rotated")
    assert service.receive_close().code == 1001
    assert far.receive_close().code == 1001
    service.close()
    far.close()


def test_the_end_in_the_middle_of_it(hub):
    device = hub.create("end")
    client = device.listen()
    legs = [leg for _ in range(10) for leg in pair(hub, device, client)]
    stopped = threading.Event()

    def knock():
        while not stopped.is_set():
            try:
                plain(hub, hub.https).close()
                Opening(hub, device.name, connect=1, response=1).close()
            except (OSError, EOFError, AssertionError):
                time.sleep(0.01)

    threads = [threading.Thread(target=knock) for _ in range(4)]
    for thread in threads:
        thread.start()
    hub.process.signal(signal.SIGTERM)
    assert hub.process.wait(30) == 0
    stopped.set()
    for thread in threads:
        thread.join()
    assert os.listdir(os.path.join(hub.state, "run", "streams")) == []
    for leg in legs:
        assert leg.receive_close().code == 1001
        leg.close()
    client.close()


def test_handshakes_that_do_not_go_on_hold_nobody_up_for_long(new_hub, keep):
    hub = new_hub()
    device = hub.create()
    # Who says nothing has no place behind the gate; who begins and stops loses it.
    silent = [keep(socket.create_connection((hub.address, hub.mqtts))) for _ in range(400)]
    device.login().close()
    begun = [keep(socket.create_connection((hub.address, hub.mqtts))) for _ in range(400)]
    for one in begun:
        one.sendall(b"\x16\x03\x01")
    device.login().close()
    assert all(one.fileno() >= 0 for one in silent)
