"""Who takes messages from devices over MQTT and TLS: the hub, which keeps them, and mosquitto, which forgets them."""

import base64
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import threading
import time

from harness import sas
from harness.programs import free_ports
from harness.rest import path

from .ours import OwnHub
from .peers import Peer, need
from .processes import begin_peak, bound, family, peak, resident
from .subjects import Subject
from .tools import Failure


class Broker(Subject):
    """Something with an MQTT listener; `accounts` names a file of that many devices."""

    def accounts(self, count):
        raise NotImplementedError

    def publish(self, count, qos, pace, *options):
        return self.place.tools.devices(
            "--port", self.port, "--accounts", self.accounts(count), "--qos", qos, "--pids", ",".join(map(str, self.pids())),
            "--seconds", pace.seconds, "--warm-up", pace.warm_up, *options)

    def storm(self, count):
        """All devices lose their connections and come back at once: seconds until the last is back, and the most memory that takes,
        divided by that of before."""
        accounts = self.accounts(count)
        self.publish_once()
        words = [self.place.tools.path("devices"), "storm", "--port", self.port, "--accounts", accounts]
        child = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=bound)
        try:
            if child.stdout.readline() != "ready\n":
                raise Failure("the devices did not come in")
            pids = self.pids()
            begin_peak(pids)
            steady = peak(pids)[1]
            child.stdin.write("!")
            child.stdin.flush()
            seconds = child.stdout.readline()
            if not seconds:
                raise Failure("the devices did not come back")
            return float(seconds), peak(pids)[0] / steady
        finally:
            child.stdin.close()
            child.wait(30)

    def shake(self, mode, pace, certificate=None):
        """Handshakes and what they cost."""
        shown = ["--cert", certificate[0], "--key", certificate[1]] if certificate else []
        return self.place.tools.handshakes(
            mode, "--port", self.port, "--pids", ",".join(map(str, self.pids())), "--seconds", pace.seconds, "--warm-up", pace.warm_up,
            *shown)

    def weigh(self, count):
        """Kilobytes of memory for each device that is connected and silent."""
        accounts = self.accounts(count)
        self.publish_once()  # what the first connection brings with it is not one device's weight
        before = resident(self.pids())
        words = [self.place.tools.path("devices"), "idle", "--port", self.port, "--accounts", accounts]
        child = subprocess.Popen(list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=bound)
        try:
            if child.stdout.readline() != "ready\n":
                raise Failure("the devices did not come in")
            return (resident(self.pids()) - before) / count / 1000
        finally:
            child.stdin.close()
            child.wait(30)

    def scale(self, pace):
        """What thousands of devices cost that publish now and then, measured once for all rows: see `Scale`."""
        known = self.place.__dict__.setdefault("scales", {})
        if self.name not in known:
            known[self.name] = Scale(self, pace).measure()
        return known[self.name]

    def asking(self, count):
        """Something that asks besides, if this one can be asked: a context manager with `milliseconds`."""
        return Silence()

    def publish_once(self):
        self.place.tools.devices("--port", self.port, "--accounts", self.accounts(1), "--seconds", 0.1, "--warm-up", 0.1)


class Silence:
    """Nobody asks."""

    milliseconds = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Asking(Silence):
    """A service that calls a method of one device and reads the twin of another, fifty times a second each, over REST."""

    pause = 0.02

    def __init__(self, hub, names):
        self.hub, self.names = hub, names
        self.milliseconds = {"method": [], "twin": []}
        self.over = threading.Event()

    def __enter__(self):
        self.device = self.hub.create()
        self.client = self.device.login(keep_alive=0)
        self.client.subscribe("$iothub/methods/POST/#")
        self.threads = [threading.Thread(target=one) for one in (self.answer, self.ask)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.threads[1].join(30)
        self.client.socket.shutdown(socket.SHUT_RDWR)
        self.threads[0].join(30)
        self.client.close()

    def answer(self):
        try:
            while True:
                packet = self.client.receive(600)
                self.client.publish("$iothub/methods/res/200/?$rid=" + packet.topic.split("$rid=")[1], packet.payload)
        except (OSError, EOFError, ValueError):
            pass

    def ask(self):
        token, number = self.hub.service_token(), 0
        with self.hub.connect(seconds=60) as connection:
            while not self.over.wait(self.pause):
                for what, method, target, body in (
                        ("method", "POST", path("twins", self.device.name, "methods"), {"methodName": "ask", "payload": number}),
                        ("twin", "GET", path("twins", self.names[number * 7919 % len(self.names)]), None)):
                    began = time.perf_counter()
                    answer = connection.exchange(method, target, body=body, token=token)
                    self.milliseconds[what].append((time.perf_counter() - began) * 1000)
                    if answer.status != 200:
                        raise Failure(f"{what}: {answer}")
                number += 1


class Scale:
    """Ten thousand devices over TLS, each with a message of 100 bytes at QoS 1 every ten seconds, while somebody asks."""

    def __init__(self, broker, pace):
        self.broker = broker
        self.count, self.interval, self.seconds, self.warm_up = (200, 1, 1, 2) if pace.quick else (10_000, 10, 20, 10)

    def measure(self):
        """`connected` seconds until all were in, `cpu` in percent of a core, `memory` in kB for each device, `milliseconds` of answers."""
        broker, accounts = self.broker, self.broker.accounts(self.count)
        broker.publish_once()
        before, heaviest = resident(broker.pids()), 0
        words = [broker.place.tools.path("devices"), "publish", "--port", broker.port, "--accounts", accounts, "--qos", 1, "--interval",
                 self.interval, "--seconds", self.seconds, "--warm-up", self.warm_up, "--pids", ",".join(map(str, broker.pids()))]
        child = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=bound)
        if child.stdout.readline() == "ready\n":
            # Weighing holds up who is weighed: it is over before anybody asks.
            end = time.monotonic() + self.warm_up
            while time.monotonic() < end and child.poll() is None:
                heaviest = max(heaviest, resident(broker.pids()))
                time.sleep(0.5)
        with broker.asking(self.count) as asking:
            child.wait()
        said, wrong = child.stdout.read(), child.stderr.read()
        if child.returncode != 0:
            raise Failure(wrong.strip() or f"devices: exit {child.returncode}")
        got = json.loads(said)
        expected = self.count / self.interval * got["seconds"]
        if got["messages"] < expected * 0.9:
            raise Failure(f"{got['messages']} of {expected:.0f} messages were taken")
        return {"connected": got["connected"], "cpu": got["cpu"] / got["seconds"] * 100, "memory": (heaviest - before) / self.count / 1000,
                "milliseconds": {what: sorted(times) for what, times in asking.milliseconds.items()}}


class HubBroker(Broker):
    name = "iotstream hub"

    def start(self):
        self.hub = OwnHub(self.place)
        self.port = self.hub.mqtts
        self.files = {}

    def pids(self):
        return family(self.hub.process.pid)

    def stop(self):
        if hasattr(self, "hub"):
            self.hub.remove()
        super().stop()

    def asking(self, count):
        return Asking(self.hub, [f"load-{count}-{number}" for number in range(count)])

    def accounts(self, count):
        if count not in self.files:
            key = base64.b64encode(os.urandom(32)).decode()
            names = [f"load-{count}-{number}" for number in range(count)]
            lines = (json.dumps({"id": name, "importMode": "create", "status": "enabled", "authentication": {
                "type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}}) for name in names)
            with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                self.hub.admin("device", "import", file.name, seconds=300)
            made = pathlib.Path(self.place.directory) / f"accounts-{count}"
            made.write_text("".join(
                f"{name}\tlocalhost/{name}/?api-version=2021-04-12\t{sas.token(key, f'localhost/devices/{name}')}\n" for name in names))
            self.files[count] = made
        return self.files[count]


class Mosquitto(Broker, Peer):
    name = "mosquitto"
    more = ""

    def start(self):
        program, self.port = need("mosquitto"), free_ports()
        file = self.directory() / "mosquitto.conf"
        file.write_text(f"""per_listener_settings false
allow_anonymous true
persistence false
max_inflight_messages 1000
listener {self.port} 127.0.0.1
certfile {self.place.cert}
keyfile {self.place.key}
cafile {self.place.certificates.root}
{self.more}user root
""")
        self.run(self.port, program, "-c", file)

    def accounts(self, count):
        made = pathlib.Path(self.place.directory) / f"anonymous-{count}"
        made.write_text("".join(f"load-{count}-{number}\tanybody\tanything\n" for number in range(count)))
        return made


class MosquittoAsking(Mosquitto):
    """With certificates of its clients, whose chain it judges."""

    more = "require_certificate true\n"


class HaproxyEdge(Peer):
    """Ends TLS for HTTP, as it stands before most services."""

    name = "haproxy"
    more = ""

    def start(self):
        program, self.port = need("haproxy"), free_ports()
        both = self.directory() / "both.pem"
        both.write_text(pathlib.Path(self.place.cert).read_text() + pathlib.Path(self.place.key).read_text())
        both.chmod(0o600)
        file = self.directory() / "haproxy.cfg"
        file.write_text(f"""global
    maxconn 3000
defaults
    mode http
    timeout connect 10s
    timeout client 1h
    timeout server 1h
frontend edge
    bind 127.0.0.1:{self.port} ssl crt {both} backlog 4096 {self.more.format(root=self.place.certificates.root)}
    http-request return status 200
""")
        self.run(self.port, program, "-db", "-f", file)

    shake = Broker.shake

    def pids(self):
        return family(*(one.pid for one in self.held))


class HaproxyAsking(HaproxyEdge):
    """With certificates of its clients, whose chain it judges."""

    more = "verify optional ca-file {root}"
