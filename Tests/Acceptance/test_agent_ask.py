"""A person at the device decides: --ask, and request list, accept, reject."""

import contextlib
import json
import os
import pathlib
import time

import pytest
from harness import waiting
from harness.process import run
from harness.programs import Agent, Forward, Server, echo, receive_exactly


class Desk:
    """The person at the device."""

    def __init__(self, hub, agent):
        self.hub, self.state = hub, agent.directory / "state"

    def __call__(self, *words, check=0):
        return run([self.hub.binary, "request", *words], {"IOTSTREAM_STATE": str(self.state)}, check=check)

    def waiting(self):
        listed = self("list", "--json", check=None)
        if listed.returncode or not listed.stdout.strip():
            return []
        text = listed.stdout.strip()
        return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]

    def one(self):
        return waiting.until(self.waiting, 10, "a waiting request")[0]


@pytest.fixture
def ground(hub, keep):
    server = keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", options=["--ask"]))
    forward = keep(Forward(hub, device, "0:it", "0:other"))
    return Desk(hub, agent), server, agent, forward


def test_accepted(ground):
    desk, server, _, forward = ground
    with forward.connect("it") as client:
        request = desk.one()
        assert request["name"] == "it" and str(server.port) in json.dumps(request)
        assert server.accepted == 0
        table = desk("list").stdout
        assert request["id"] in table and "it" in table
        desk("accept", request["id"])
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        assert desk.waiting() == []
        # It is decided: the same word again has nothing to do.
        again = desk("accept", request["id"], check=None)
        assert again.returncode in (1, 66) and again.stderr.startswith("iotstream request: ")


def test_rejected_with_a_reason(ground):
    desk, server, _, forward = ground
    with forward.connect("it") as client:
        request = desk.one()
        desk("reject", request["id"], "--reason", "machine is running")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    forward.process.wait_line("machine is running", 5)
    assert server.accepted == 0 and desk.waiting() == []


def test_what_is_not_allowed_is_not_asked(ground):
    desk, _, _, forward = ground
    with forward.connect("other") as client:
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert desk.waiting() == []


def test_several_wait_side_by_side(ground):
    desk, server, _, forward = ground
    clients = [forward.connect("it") for _ in range(5)]
    requests = waiting.until(lambda: len(desk.waiting()) == 5 and desk.waiting(), 10)
    for number, request in enumerate(requests):
        desk("accept" if number % 2 else "reject", request["id"])
    alive = 0
    for client in clients:
        with contextlib.suppress(OSError, EOFError):
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"
            alive += 1
        client.close()
    assert alive == 2 and server.accepted == 2


def test_a_client_that_gives_up_takes_its_request_with_it_or_finds_nobody(ground):
    desk, server, agent, forward = ground
    client = forward.connect("it")
    request = desk.one()
    client.close()
    desk("accept", request["id"], check=None)
    with forward.connect("it") as other:
        request = waiting.until(lambda: [one for one in desk.waiting() if one["id"] != request["id"]], 10)[0]
        desk("accept", request["id"])
        other.sendall(b"hello")
        assert receive_exactly(other, 5) == b"hello"
    assert agent.process.running()


def test_nobody_answers(hub, keep):
    """The time limit decides, and it decides for no."""
    server = keep(Server(echo))
    device = hub.create()
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", options=["--ask", "--ask-timeout", "2s"]))
    desk = Desk(hub, agent)
    forward = keep(Forward(hub, device, "0:it"))
    started = time.monotonic()
    with forward.connect() as client:
        desk.one()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    assert 1.5 < time.monotonic() - started < 6
    assert server.accepted == 0
    waiting.until(lambda: desk.waiting() == [], 5)
    forward.process.wait_line("(?i)iotstream forward: .*(nobody|answer|time)", 5)


def test_the_control_files_are_private_and_of_use(ground):
    """The commands are sugar: a fifo takes the word."""
    desk, _, _, forward = ground
    with forward.connect("it") as client:
        request = desk.one()
        [fifo] = pathlib.Path(desk.state).rglob(f"requests/{request['id']}.fifo")
        assert os.stat(fifo.parent).st_mode & 0o077 == 0
        with open(fifo, "w") as file:
            file.write("accept\n")
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        waiting.until(lambda: not fifo.exists(), 5)


def test_unknown_requests(ground):
    desk, *_ = ground
    for words in (("accept", "ffff"), ("reject", "ffff"), ("accept", "../x")):
        result = desk(*words, check=None)
        assert result.returncode in (1, 64, 65, 66) and result.stderr.startswith("iotstream request: ")
