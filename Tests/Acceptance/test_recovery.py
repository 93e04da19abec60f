"""What goes wrong and comes back: a killed hub, a device that dies without a word, a path that is dead."""

import contextlib
import os
import signal
import socket
import threading
import time

from harness import waiting
from harness.programs import Agent, Forward, Server, echo, free_ports, receive_exactly
from harness.rest import path


def answers(forward):
    """Does a new stream work?"""
    try:
        with forward.connect(seconds=3) as client:
            client.sendall(b"hello")
            return receive_exactly(client, 5) == b"hello"
    except (OSError, EOFError):
        return False


def test_streams_work_again_soon_after_the_hub_was_killed(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    for _ in range(3):
        old = forward.connect()
        old.sendall(b"running")
        assert receive_exactly(old, 7) == b"running"
        hub.restart()
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert old.recv(1) == b""
        old.close()
        waiting.until(lambda: answers(forward), 10, "a stream after the restart")
        assert time.monotonic() - started < 10
    assert agent.process.running() and forward.process.running()


def test_streams_work_again_after_a_hub_that_was_away(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    assert answers(forward)
    hub.process.kill()
    hub.process.stop()
    agent.process.wait_line("event=unreachable", 10)
    assert not answers(forward)
    hub.start()
    waiting.until(lambda: answers(forward), 10, "a stream after the restart")


def test_what_was_acknowledged_survives_kill_minus_9(new_hub):
    hub = new_hub()
    acknowledged, total = {}, 0
    for round_ in range(8):
        token = hub.service_token()
        stop = threading.Event()
        lock = threading.Lock()

        def write(worker):
            number = 0
            with contextlib.suppress(OSError, EOFError), hub.connect() as connection:
                while not stop.is_set():
                    name = f"r{round_}w{worker}n{number}"
                    answer = connection.exchange("PUT", path("devices", name), body={"deviceId": name}, token=token)
                    assert answer.status == 200, answer
                    with lock:
                        acknowledged[name] = answer.json["authentication"]["symmetricKey"]["primaryKey"]
                    if number % 3 == 2:
                        # No answer, no knowledge: the name is out of the account until there is one.
                        with lock:
                            acknowledged.pop(f"r{round_}w{worker}n{number - 1}")
                        gone = f"r{round_}w{worker}n{number - 1}"
                        assert connection.exchange("DELETE", path("devices", gone), token=token).status == 204
                        with lock:
                            acknowledged[gone] = None
                    number += 1

        before = len(acknowledged)
        workers = [threading.Thread(target=write, args=(n,)) for n in range(6)]
        for worker in workers:
            worker.start()
        waiting.until(lambda: len(acknowledged) >= before + 60, 30)
        hub.process.signal(signal.SIGKILL)
        stop.set()
        for worker in workers:
            worker.join(30)
        hub.process.stop()
        hub.start()
        with hub.connect() as connection:
            for name, key in acknowledged.items():
                answer = connection.exchange("GET", path("devices", name), token=token)
                if key is None:
                    assert answer.status == 404, name
                else:
                    assert answer.status == 200 and answer.json["authentication"]["symmetricKey"]["primaryKey"] == key, name
        total = len(acknowledged)
    assert total >= 480


def test_a_tools_writes_survive_too(new_hub):
    hub = new_hub()
    for number in range(5):
        hub.admin("device", "create", f"tool{number}")
        hub.restart()
    assert {one["deviceId"] for one in hub.rest("GET", path("devices")).json} == {f"tool{number}" for number in range(5)}


def test_a_thousand_silent_deaths(new_hub):
    """Each login finds a dead one before it: the socket is open, and nobody is at its other end."""
    hub = new_hub()
    device = hub.create()
    token = device.token()

    def login(web):
        client = hub.mqtt(web)
        assert client.connect(device.client, device.user(), token, clean=False, keep_alive=240)[0] == 0
        assert client.subscribe("$iothub/streams/POST/#", "$iothub/streams/res/#") == [0, 0]
        return client

    # None of the dead closes its socket, reads, or answers: the hub has to do without.
    dead = [login(number % 2) for number in range(100)]
    descriptors, memory = hub.process.descriptors(), hub.process.resident()
    dead += [login(number % 2) for number in range(1000)]
    living = dead[-1]
    living.ping()
    waiting.until(lambda: hub.process.descriptors() <= descriptors + 8, 20, "the descriptors' return")
    assert hub.process.resident() - memory < 6 << 20
    assert hub.rest("GET", path("statistics", "service")).json == {"connectedDeviceCount": 1}
    for client in dead:
        client.close()


def test_an_agent_that_starts_before_the_hub(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device = hub.create()
    string = hub.connection_string()
    hub.stop()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", wait=False))
    forward = keep(Forward(hub, device, "0:it", connection_string=string))
    agent.process.wait_line("event=unreachable", 10)
    assert not answers(forward)
    assert agent.process.running() and forward.process.running()
    hub.start()
    agent.ready(20)
    waiting.until(lambda: answers(forward), 10)


def test_an_agent_whose_name_server_knows_nothing(hub, keep):
    device = hub.create()
    agent = keep(Agent(hub, device, 22, wait=False,
                       connection_string=device.connection_string.replace("localhost", "hub.does-not-exist.invalid")))
    agent.process.wait_line("hub.does-not-exist.invalid", 15)
    assert agent.process.running()


def test_several_hub_addresses(hub, keep, tmp_path):
    """The agent takes the next one when the first is dead."""
    server = keep(Server(echo))
    device = hub.create()
    string = device.connection_string.replace(f":{hub.https};", f":{free_ports()};")
    configuration = tmp_path / "agent.conf"
    configuration.write_text(f"hub localhost:{free_ports()}\nhub localhost:{hub.https}\n")
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", connection_string=string, options=["--config", configuration]))
    forward = keep(Forward(hub, device, "0:it"))
    assert answers(forward) and agent.process.running()


def test_an_agent_that_is_refused_goes_on_trying(hub, keep):
    device = hub.create()
    hub.update(device, status="disabled")
    agent = keep(Agent(hub, device, 22, wait=False))
    agent.process.wait_line("(?i)(unauthori|refused|not accepted|denied|credential)", 15)
    assert agent.process.running()
    hub.admin("device", "enable", device.name)
    agent.ready(40)


def test_a_second_agent_of_the_same_device_wins(hub, keep):
    server = keep(Server(echo))
    device = hub.create()
    first = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    second = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    waiting.until(lambda: answers(forward), 20)
    assert first.process.running() and second.process.running()


def test_a_wrong_clock_is_mended_by_the_hubs(hub, keep, iotstream):
    library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
    if not os.path.exists(library):
        library = next((f"{root}/libfaketime.so.1" for root, _, names in os.walk("/usr/lib") if "libfaketime.so.1" in names), None)
    assert library, "libfaketime is missing"
    server = keep(Server(echo))
    for offset in ("-3d", "+30d"):
        device = hub.create()
        agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", environment={"LD_PRELOAD": library, "FAKETIME": offset}, wait=False))
        agent.ready(30)
        assert agent.process.has_line("(?i)clock"), agent.process.log
        forward = keep(Forward(hub, device, "0:it"))
        waiting.until(lambda: answers(forward), 10)


# --- the hub's own life -------------------------------------------------------------------------------------------


def test_sigterm_drains(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    client = forward.connect()
    client.sendall(b"one")
    assert receive_exactly(client, 3) == b"one"
    hub.process.signal(signal.SIGTERM)
    waiting.until(lambda: not listens(hub.https), 5, "the end of the listener")
    client.sendall(b"two")
    assert receive_exactly(client, 3) == b"two"
    client.close()
    assert hub.process.wait(15) == 0


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_sigterm_of_an_idle_hub_is_quick(new_hub):
    hub = new_hub()
    device = hub.create()
    with device.login():
        started = time.monotonic()
        assert hub.stop() == 0
        assert time.monotonic() - started < 5


def test_certificates_are_swapped_on_sighup_and_connections_stay(new_hub, iotstream, certificates, tmp_path):
    import shutil
    from harness.process import run
    for name in ("root.ca.cert.pem", "root.ca.key.pem", "localhost.cert.pem", "localhost.key.pem", "localhost.full-chain.cert.pem"):
        shutil.copy(certificates.directory / name, tmp_path / name)

    class Copies:
        root, chain, key = tmp_path / "root.ca.cert.pem", tmp_path / "localhost.full-chain.cert.pem", tmp_path / "localhost.key.pem"

    hub = new_hub(start=False)
    hub.certificates = Copies
    hub.start()
    device = hub.create()
    with device.login() as client, hub.connect() as connection:
        old = connection.socket.getpeercert(True)
        run([iotstream, "cert", "gen-server", "localhost", "127.0.0.1", "--dir", tmp_path, "--force"], check=0)
        hub.process.signal(signal.SIGHUP)

        def presented():
            with hub.connect() as fresh:
                return fresh.socket.getpeercert(True)

        waiting.until(lambda: presented() != old, 5, "the new certificate")
        client.ping()
        assert connection.exchange("GET", path("statistics", "devices"), token=hub.service_token()).status == 200
        # Nonsense in the file leaves the good one in place.
        good = presented()
        Copies.chain.write_text("nonsense\n")
        lines = len(hub.process.lines)
        hub.process.signal(signal.SIGHUP)
        hub.process.wait_line("event=reload-failed", 5, after=lines)
        assert presented() == good
        client.ping()
