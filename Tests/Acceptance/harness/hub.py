"""The hub under test, its clients and the command line that acts on its state."""

import json
import shutil
import tempfile

from . import mqtt, rest, sas, websocket
from .process import Process, run

READY = r"iotstream hub: ready https=(\S+):(\d+) mqtts=(\S+):(\d+)"


class Certificates:
    """A root and a server certificate that every test shares."""

    def __init__(self, binary, directory):
        self.directory = directory
        run([binary, "cert", "gen-root", "--dir", directory], check=0)
        run([binary, "cert", "gen-server", "localhost", "127.0.0.1", "::1", "hub.test", "--dir", directory], check=0)
        self.root = directory / "root.ca.cert.pem"
        self.chain = directory / "localhost.full-chain.cert.pem"
        self.key = directory / "localhost.key.pem"


class Device:
    """An identity and its ways in."""

    def __init__(self, hub, name, module, document):
        self.hub, self.name, self.module = hub, name, module
        self.document = document
        keys = document["authentication"]["symmetricKey"]
        self.key, self.secondary = keys["primaryKey"], keys["secondaryKey"]

    @property
    def client(self):
        return self.name + (f"/{self.module}" if self.module else "")

    @property
    def resource(self):
        return f"{self.hub.name}/devices/{self.name}" + (f"/modules/{self.module}" if self.module else "")

    def user(self, query="?api-version=2021-04-12"):
        return f"{self.hub.name}/{self.client}/{query}"

    def token(self, **named):
        return sas.token(named.pop("key", self.key), named.pop("resource", self.resource), **named)

    @property
    def connection_string(self):
        text = f"HostName={self.hub.name}:{self.hub.https};DeviceId={self.name}"
        if self.module:
            text += f";ModuleId={self.module}"
        return text + f";SharedAccessKey={self.key}"

    def login(self, web=False, clean=True, keep_alive=60, token=None, opener=None, query="?api-version=2021-04-12"):
        """An accepted MQTT connection."""
        client = self.hub.mqtt(web, opener)
        code, _ = client.connect(self.client, self.user(query), token or self.token(), clean=clean, keep_alive=keep_alive)
        assert code == 0, f"CONNACK {code}"
        return client

    def listen(self, **named):
        """A connection that takes stream requests."""
        client = self.login(**named)
        assert client.subscribe("$iothub/streams/POST/#", "$iothub/streams/res/#") == [0, 0]
        return client


class Hub:
    """A hub with a state directory of its own."""

    def __init__(self, binary, certificates, namespace=None, address="127.0.0.1", ports=(0, 0), name="localhost", options=(), start=True,
                 limits=None):
        self.binary, self.certificates, self.namespace = binary, certificates, namespace
        self.ca = certificates.root
        self.address, self.name = address, name
        self.state = tempfile.mkdtemp(prefix="iotstream-hub.")
        self.https, self.mqtts = ports
        self.options, self.limits = list(options), limits
        self.process = None
        self.policies = {}
        self.count = 0
        if start:
            self.start()

    def arguments(self):
        return [
            self.binary, "hub", "--state", self.state, "--hostname", self.name, "--https", f"{self.address}:{self.https}", "--mqtts",
            f"{self.address}:{self.mqtts}", "--tls-cert", self.certificates.chain, "--tls-key", self.certificates.key, *self.options,
        ]

    def start(self, seconds=20.0):
        self.process = Process(self.arguments(), namespace=self.namespace, limits=self.limits)
        ready = self.process.wait_line(READY, seconds)
        self.https, self.mqtts = int(ready[2]), int(ready[4])
        return self

    def restart(self):
        """Dies without a word, and comes back on the same ports."""
        self.process.kill()
        self.process.stop()
        return self.start()

    def stop(self):
        status = self.process.stop() if self.process else None
        return status

    def remove(self):
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)

    def admin(self, *arguments, check=0, seconds=60, stdin=None):
        """Runs a command on the state directory."""
        return run([self.binary, *arguments], {"IOTSTREAM_STATE": self.state}, seconds=seconds, check=check, stdin=stdin)

    def admin_json(self, *arguments):
        return json.loads(self.admin(*arguments, "--json").stdout)

    def connection_string(self, policy="iothubowner"):
        return self.admin("policy", "connection-string", policy).stdout.strip()

    def policy_key(self, policy="iothubowner"):
        if policy not in self.policies:
            self.policies[policy] = sas.parse_connection_string(self.connection_string(policy))["SharedAccessKey"]
        return self.policies[policy]

    def service_token(self, policy="iothubowner", **named):
        return sas.token(named.pop("key", None) or self.policy_key(policy), named.pop("resource", self.name), policy, **named)

    def connect(self, **named):
        """A connection to the HTTPS port."""
        return rest.Connection((self.address, self.https), self.ca, self.name, **named)

    def rest(self, method, target, body=None, headers=None, token=None):
        """One exchange with the rights of the owner, on a connection of its own."""
        with self.connect() as connection:
            return connection.exchange(method, target, headers, body, token or self.service_token())

    def create(self, name=None, module=None, body=None):
        """Creates a device over REST (or a module of it)."""
        if name is None:
            self.count += 1
            name = f"dev{self.count}"
        segments = ["devices", name] + (["modules", module] if module else [])
        document = {"deviceId": name, **({"moduleId": module} if module else {}), **(body or {})}
        answer = self.rest("PUT", rest.path(*segments), document)
        assert answer.status == (201 if module else 200), answer
        return Device(self, name, module, answer.json)

    def update(self, device, **members):
        answer = self.rest("PUT", rest.path("devices", device.name), {**device.document, **members}, {"If-Match": "*"})
        assert answer.status == 200, answer
        return answer.json

    def mqtt(self, web=False, opener=None):
        if web:
            return mqtt.Client.web((self.address, self.https), self.ca, self.name, opener=opener)
        return mqtt.Client.tcp((self.address, self.mqtts), self.ca, self.name, opener=opener)

    def leg(self, url, token, headers=None, seconds=20.0, opener=None):
        """An accepted leg of a stream."""
        connection, target, fields = websocket.open_url(
            url, {"Authorization": f"Bearer {token}", **(headers or {})}, self.ca, seconds=seconds, opener=opener, host=self.address)
        return websocket.WebSocket(connection, target, fields)

    def leg_answer(self, url, token=None, headers=None):
        """The answer to an upgrade that may be refused, and the connection."""
        fields = dict(headers or {})
        if token is not None:
            fields["Authorization"] = f"Bearer {token}"
        connection, target, fields = websocket.open_url(url, fields, self.ca, host=self.address)
        return websocket.Upgrade(connection, target, fields).answer, connection
