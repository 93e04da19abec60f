"""Three machines: the service and the device have no route to each other, and the device lets nobody in."""

import contextlib
import os
import socket
import time

import pytest
from harness import mqtt, sas, waiting
from harness.hub import Hub
from harness.namespaces import Namespace, link
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, Sshd, echo, receive_all, receive_exactly
from harness.rest import path

HUB_AT_SERVICE, SERVICE, HUB_AT_DEVICE, DEVICE = "10.71.1.1", "10.71.1.2", "10.71.2.1", "10.71.2.2"
PROXY_AT_HUB, HUB_AT_PROXY, PROXY_AT_DEVICE = "10.71.3.2", "10.71.3.1", "10.71.2.1"

# Not `python3 -m http.server`: its queue of five overflows under parallel requests, and what then waits is the kernel's retransmission.
WEB = """
import functools, http.server
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/usr/share/common-licenses")
server = Server(("127.0.0.1", 0), handler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"""


class World:
    """The machines and the hub on its proper ports."""

    def __init__(self, binary, certificates, proxy=False):
        self.held = []
        self.service = self.keep(Namespace("svc", {"hub.test": HUB_AT_SERVICE}))
        self.middle = self.keep(Namespace("hub", {"hub.test": HUB_AT_SERVICE}))
        # Behind a proxy the device does not even know the hub's name.
        self.far = self.keep(Namespace("dev", {} if proxy else {"hub.test": HUB_AT_DEVICE}))
        link(self.middle, f"{HUB_AT_SERVICE}/24", self.service, f"{SERVICE}/24")
        if proxy:
            self.proxy = self.keep(Namespace("prx", {"hub.test": HUB_AT_PROXY}))
            link(self.middle, f"{HUB_AT_PROXY}/24", self.proxy, f"{PROXY_AT_HUB}/24")
            link(self.proxy, f"{PROXY_AT_DEVICE}/24", self.far, f"{DEVICE}/24")
        else:
            link(self.middle, f"{HUB_AT_DEVICE}/24", self.far, f"{DEVICE}/24")
        self.far.refuse_inbound()
        self.hub = self.keep(Hub(binary, certificates, namespace=self.middle, address="[::]", ports=(443, 8883), name="hub.test", start=False))
        self.hub.start()
        # Raw clients stand with the service.
        self.hub.address = HUB_AT_SERVICE
        self.device_string = self.hub.admin("device", "create", "mydevice").stdout.strip()
        assert self.device_string.startswith("HostName=hub.test;"), self.device_string
        self.service_string = self.hub.connection_string()

    def keep(self, thing):
        self.held.append(thing)
        return thing

    def remove(self):
        for thing in reversed(self.held):
            (thing.stop if hasattr(thing, "stop") and not hasattr(thing, "remove") else thing.remove)()

    class Identity:
        name = client = "mydevice"
        module = None

    def agent(self, *allow, **named):
        return self.keep(Agent(self.hub, self.Identity, *allow, namespace=self.far, connection_string=self.device_string, **named))

    def forward(self, *specifications, **named):
        return self.keep(Forward(self.hub, "mydevice", *specifications, namespace=self.service, connection_string=self.service_string, **named))

    def dial(self, forward, remote=None, seconds=20.0):
        return self.service.dial(("127.0.0.1", forward.ports[remote] if remote else forward.first), seconds)

    def server(self, handler):
        return self.keep(Server(handler, listener=self.far.listen(("127.0.0.1", 0))))

    def answers(self, forward, remote=None):
        try:
            with self.dial(forward, remote, 3) as client:
                client.settimeout(3)
                client.sendall(b"hello")
                return receive_exactly(client, 5) == b"hello"
        except (OSError, EOFError):
            return False


@pytest.fixture(scope="module", params=["direct", "proxy"])
def world(request, iotstream, certificates, tmp_path_factory):
    made = World(iotstream, certificates, request.param == "proxy")
    try:
        options = []
        if request.param == "proxy":
            configuration = tmp_path_factory.mktemp("proxy") / "tinyproxy.conf"
            configuration.write_text(
                f'Port 8888\nListen {PROXY_AT_DEVICE}\nTimeout 3600\nAllow {DEVICE}\nBasicAuth someone pass-word\nConnectPort 443\n'
                "MaxClients 2000\nLogLevel Warning\n")
            made.keep(Process(["tinyproxy", "-d", "-c", configuration], namespace=made.proxy))
            waiting.until(lambda: listening(made.far, (PROXY_AT_DEVICE, 8888)), 10)
            options = ["--proxy", f"http://someone:pass%2Dword@{PROXY_AT_DEVICE}:8888"]
        made.options = options
        made.sshd = made.keep(Sshd(tmp_path_factory.mktemp("ssh") / "sshd", 22, made.far))
        made.echo = made.server(echo)

        def speak(connection):
            connection.sendall(b"220 ready\r\n")
            connection.sendall(receive_all(connection)[::-1])

        made.speaker = made.server(speak)
        web = made.keep(Process(["python3", "-u", "-c", WEB], namespace=made.far))
        port = web.wait_line(r"port (\d+)")[1]
        made.ready = made.agent(22, f"web=127.0.0.1:{port}", f"echo=127.0.0.1:{made.echo.port}", f"speaker=127.0.0.1:{made.speaker.port}",
                                options=options)
        made.way = made.forward("0:22", "0:web", "0:echo", "0:speaker")
        yield made
    finally:
        made.remove()


def listening(namespace, address):
    with contextlib.suppress(OSError):
        namespace.dial(address, 1).close()
        return True
    return False


def test_there_is_no_other_way(world):
    for source, target in ((world.service, (DEVICE, 22)), (world.far, (SERVICE, 22))):
        with pytest.raises(OSError) as caught:
            source.dial(target, 2)
        assert not isinstance(caught.value, ConnectionRefusedError)
    near = world.middle if not world.options else world.proxy
    with pytest.raises(TimeoutError):
        near.dial((DEVICE, 22), 2)
    if world.options:
        with pytest.raises(OSError):
            world.far.dial((HUB_AT_PROXY, 443), 2)


def test_ssh_scp_and_rsync(world, tmp_path):
    options = ["-p", str(world.way.ports["22"]), *world.sshd.options()]
    result = run(["ssh", *options, "root@127.0.0.1", "ip -o addr"], namespace=world.service, check=0)
    assert DEVICE in result.stdout
    data = os.urandom(20 << 20)
    (tmp_path / "file").write_bytes(data)
    capital = ["-P" if word == "-p" else word for word in options]
    run(["scp", "-q", *capital, tmp_path / "file", f"root@127.0.0.1:{tmp_path}/there"], namespace=world.service, check=0)
    assert (tmp_path / "there").read_bytes() == data
    run(["rsync", "-e", "ssh " + " ".join(options), f"root@127.0.0.1:{tmp_path}/there", tmp_path / "back"], namespace=world.service, check=0)
    assert (tmp_path / "back").read_bytes() == data


def test_ssh_by_the_devices_name(world):
    command = f"ProxyCommand={world.hub.binary} connect %h %p --ca {world.hub.ca}"
    environment = {"IOTSTREAM_CONNECTION_STRING": world.service_string}
    run(["ssh", *world.sshd.options(command), "root@mydevice", "true"], environment, namespace=world.service, check=0)
    result = run([world.hub.binary, "ssh", "--ca", world.hub.ca, "root@mydevice", *world.sshd.options(), "echo", "there"], environment,
                 namespace=world.service, check=0)
    assert result.stdout == "there\n"


def test_the_web_with_two_hundred_requests(world, tmp_path):
    base = f"http://127.0.0.1:{world.way.ports['web']}/GPL-3"
    result = run(["curl", "-sS", "--no-progress-meter", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", "200", f"{base}?[1-200]",
                  "-o", tmp_path / "out#1", "-w", "%{http_code}\n"], namespace=world.service, seconds=90, check=0)
    assert result.stdout.split() == ["200"] * 200


def test_speaking_first_and_half_close(world):
    for _ in range(5):
        with world.dial(world.way, "speaker") as client:
            assert receive_exactly(client, 11) == b"220 ready\r\n"
            client.sendall(b"abc" * 10000)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"cba" * 10000


def test_the_hub_is_killed_in_between(world):
    assert world.answers(world.way, "echo")
    world.hub.address = "[::]"
    world.hub.restart()
    world.hub.address = HUB_AT_SERVICE
    waiting.until(lambda: world.answers(world.way, "echo"), 10)


def test_a_wrong_password_at_the_proxy(world):
    if not world.options:
        return  # there is no proxy in this one
    agent = world.agent(22, options=["--proxy", f"http://someone:wrong@{PROXY_AT_DEVICE}:8888"], wait=False)
    agent.process.wait_line("(?i)proxy.*(407|auth|password|credential)", 15)
    assert agent.process.running() and "wrong" not in agent.process.log
    agent.stop()
    # Whoever tried in vain did not push the right one out.
    waiting.until(lambda: world.answers(world.way, "echo"), 10)


def test_the_proxy_from_the_environment(world):
    if not world.options:
        return  # there is no proxy in this one
    string = world.hub.admin("device", "create", "envdevice").stdout.strip()

    class Identity:
        name = client = "envdevice"
        module = None

    agent = Agent(world.hub, Identity, 22, namespace=world.far, connection_string=string,
                  environment={"https_proxy": world.options[1]})
    agent.stop()


@pytest.fixture
def quiet(iotstream, certificates):
    """A world of its own, to be broken."""
    made = World(iotstream, certificates)
    try:
        made.echo = made.server(echo)
        yield made
    finally:
        made.remove()


def test_a_dead_path_is_noticed_on_both_ends_within_twenty_seconds(quiet):
    agent = quiet.agent(f"echo=127.0.0.1:{quiet.echo.port}")
    forward = quiet.forward("0:echo")
    client = quiet.dial(forward)
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"
    lines = len(agent.process.lines)
    quiet.far.cut()
    started = time.monotonic()
    token = quiet.hub.service_token()

    def state():
        return quiet.middle.call(lambda: quiet.hub.rest("GET", path("devices", "mydevice"), token=token)).json["connectionState"]

    quiet.hub.address = "127.0.0.1"
    waiting.until(lambda: state() == "Disconnected", 25, "the hub's notice")
    hub_after = time.monotonic() - started
    agent.process.wait_line("event=disconnected", 25, after=lines)
    agent_after = time.monotonic() - started
    # The service's side of the running stream ends too.
    client.settimeout(25)
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    stream_after = time.monotonic() - started
    assert hub_after < 20 and agent_after < 20 and stream_after < 20, (hub_after, agent_after, stream_after)
    client.close()
    waiting.until(lambda: quiet.echo.open == 0, 20, "the end on the device's side")
    quiet.far.mend()
    lines = len(agent.process.lines)
    waiting.until(lambda: quiet.answers(forward), 25, "a stream after the path is back")


def test_an_agent_without_a_network_at_its_start(quiet):
    quiet.far.cut()
    agent = quiet.agent(f"echo=127.0.0.1:{quiet.echo.port}", wait=False)
    agent.process.wait_line("event=unreachable", 40)
    assert agent.process.running()
    quiet.far.mend()
    agent.ready(40)


def test_mqtt_on_its_own_port(quiet):
    agent = quiet.agent(f"echo=127.0.0.1:{quiet.echo.port}", options=["--transport", "mqtt"])
    forward = quiet.forward("0:echo")
    assert quiet.answers(forward)
    table = quiet.far.run("ss", "-tnH", "state", "established", "dport", "=", ":8883").stdout
    assert table.strip(), "no connection to 8883"
    assert agent.process.running()


def test_silent_deaths_of_whole_machines(quiet):
    """The link goes down under a connected device; it comes back with another port number, again and again."""
    key = sas.parse_connection_string(quiet.device_string)["SharedAccessKey"]
    token = sas.token(key, "hub.test/devices/mydevice")

    def login():
        client = mqtt.Client.tcp((HUB_AT_DEVICE, 8883), quiet.hub.ca, "hub.test", opener=lambda address: quiet.far.dial(address))
        assert client.connect("mydevice", "hub.test/mydevice/?api-version=2021-04-12", token)[0] == 0
        return client

    clients = [login() for _ in range(20)]
    descriptors = quiet.hub.process.descriptors()
    for _ in range(100):
        quiet.far.cut()
        clients[-1].close()
        clients.pop()
        quiet.far.mend()
        clients.append(login())
    clients[-1].ping()
    waiting.until(lambda: quiet.hub.process.descriptors() <= descriptors + 4, 20)
    for client in clients:
        client.close()
