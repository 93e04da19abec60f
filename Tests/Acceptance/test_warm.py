"""How fast a stream opens: connections that are ready before it, and TLS sessions that are resumed."""

import pytest

from harness import waiting
from harness.programs import Agent, Forward, Server, echo, receive_exactly
from harness.relay import Relay

WEIGHT = 300_000


def carry(forward, size=5):
    """A new stream that carries `size` bytes both ways."""
    with forward.connect() as client:
        data = bytes(size)
        client.sendall(data)
        assert receive_exactly(client, size) == data


def heavy(relay):
    """The connections that carried somebody's bytes."""
    return [one.number for one in relay.passages if one.up >= WEIGHT and one.down >= WEIGHT]


def ready(relay, count):
    """Waits until `count` connections have said all that a handshake has to say, ticket included."""
    waiting.until(lambda: len([one for one in relay.alive if one.up > 300 and one.down > 700 or one.resumed and one.up > 300]) >= count, 20,
                  f"{count} connections")


def test_streams_take_the_connections_that_are_ready(new_hub, keep):
    hub = new_hub()
    server = keep(Server(echo))
    device = hub.create()
    device_side, service_side = keep(Relay(hub)), keep(Relay(hub))
    agent = keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", options=["--warm", "2"],
                       connection_string=device_side.string(device.connection_string)))
    forward = keep(Forward(hub, device, "0:it", options=["--warm", "2"], connection_string=service_side.string(hub.connection_string())))
    for round in range(2):
        # Its MQTT connection, and one more for forward's requests.
        ready(device_side, 3)
        ready(service_side, 3)
        before = [len(relay.passages) for relay in (device_side, service_side)]
        carry(forward, WEIGHT)
        for relay, count in zip((device_side, service_side), before):
            assert len(heavy(relay)) == round + 1
            assert heavy(relay)[-1] < count
        if round == 0:
            hub.restart()
            agent.ready(after=len(agent.process.lines))
            waiting.until(lambda: not [one for one in service_side.alive if one.number < before[1]], 10, "the end of old connections")
    assert "spare" not in forward.process.log  # nobody was told of anything


def test_nothing_is_kept_unless_asked_for(hub, keep):
    server = keep(Server(echo))
    device = hub.create()
    relay = keep(Relay(hub))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it", connection_string=relay.string(hub.connection_string())))
    assert relay.passages == []
    carry(forward, WEIGHT)
    # The leg takes the connection by which it was asked for, and another one is made for the next request.
    waiting.until(lambda: len(relay.passages) == 2, 10, "a connection for the next stream")
    carry(forward, WEIGHT)
    waiting.until(lambda: len(relay.passages) == 3, 10, "another one")
    waiting.until(lambda: len(relay.alive) == 1, 10, "the end of the streams")


def test_ready_connections_do_not_hold_up_the_end(hub, keep):
    device = hub.create()
    relay = keep(Relay(hub))
    agent = keep(Agent(hub, device, "22", options=["--warm", "64"], connection_string=relay.string(device.connection_string)))
    forward = keep(Forward(hub, device, "0:22", options=["--warm", "64"], connection_string=relay.string(hub.connection_string())))
    ready(relay, 64 + 65 + 1)
    assert agent.process.stop(5) == 0
    assert forward.process.stop(5) == 0


def test_new_settings_make_new_connections(hub, keep, tmp_path):
    device = hub.create()
    relay = keep(Relay(hub))
    forward = keep(Forward(hub, device, "0:22", options=["--warm", "1"], connection_string=relay.string(hub.connection_string())))
    ready(relay, 2)
    old = list(relay.alive)
    forward.process.signal(1)
    waiting.until(lambda: all(one.ended for one in old) and len(relay.alive) == 2, 10, "new connections")


@pytest.mark.parametrize("streams", [1, 20])
def test_handshakes_resume_but_for_the_first_and_a_rare_other(hub, keep, streams):
    server = keep(Server(echo))
    device = hub.create()
    device_side, service_side = keep(Relay(hub)), keep(Relay(hub))
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}", connection_string=device_side.string(device.connection_string)))
    forward = keep(Forward(hub, device, "0:it", connection_string=service_side.string(hub.connection_string())))

    def burst():
        clients = [forward.connect() for _ in range(streams)]
        for client in clients:
            client.sendall(b"hello")
        for client in clients:
            assert receive_exactly(client, 5) == b"hello"
        for client in clients:
            client.close()

    burst()
    before = [len(relay.passages) for relay in (device_side, service_side)]
    for _ in range(2 if streams > 1 else 10):
        burst()
    for relay, count in zip((device_side, service_side), before):
        total = len(relay.passages) - count
        assert total > 0
        full = [one.number for one in relay.passages[count:] if not one.resumed]
        # A ticket serves once, and one may still be on its way when the next connection wants it.
        assert len(full) * 5 <= total, f"{len(full)} of {total} were full handshakes"
