"""Who takes messages from devices over MQTT and TLS: the hub, which keeps them, and mosquitto, which forgets them."""

import base64
import json
import os
import pathlib
import subprocess
import tempfile

from harness import sas
from harness.programs import free_ports

from .ours import OwnHub
from .peers import Peer, need
from .processes import bound, family, resident
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

    def publish_once(self):
        self.place.tools.devices("--port", self.port, "--accounts", self.accounts(1), "--seconds", 0.1, "--warm-up", 0.1)


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
user root
""")
        self.run(self.port, program, "-c", file)

    def accounts(self, count):
        made = pathlib.Path(self.place.directory) / f"anonymous-{count}"
        made.write_text("".join(f"load-{count}-{number}\tanybody\tanything\n" for number in range(count)))
        return made
