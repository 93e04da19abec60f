"""What the administration commands do to a hub that runs, and to what is connected to it: by the state directory and over REST."""

import concurrent.futures
import json
import os
import pathlib

import pytest
from harness import sas, streams, waiting
from harness.process import Process, run
from harness.programs import Agent, Forward, Server, echo, receive_exactly
from harness.rest import path
from harness.websocket import CLOSE


class Tool:
    """The command line on one of its two ways to the hub."""

    def __init__(self, hub, options):
        self.hub, self.options = hub, [str(option) for option in options]

    def __call__(self, *words, check=0, stdin=None):
        return run([self.hub.binary, words[0], *self.options, *words[1:]], check=check, stdin=stdin).stdout.strip()

    def json(self, *words):
        return json.loads(self(*words, "--json"))

    def fails(self, status, *words):
        result = run([self.hub.binary, words[0], *self.options, *words[1:]], check=status)
        assert result.stdout == ""
        [line] = result.stderr.splitlines()
        assert line.startswith(f"iotstream {words[0]}: "), line
        return line


@pytest.fixture(params=["state", "rest"])
def tool(request, hub, tmp_path):
    if request.param == "state":
        return Tool(hub, ["--state", hub.state])
    file = tmp_path / "service"
    file.write_text(hub.connection_string() + "\n")
    file.chmod(0o600)
    return Tool(hub, ["--connection-string-file", file, "--ca", hub.ca])


@pytest.fixture
def name(request):
    return "adm-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


def key_of(string):
    return sas.parse_connection_string(string)["SharedAccessKey"]


def answer_code(hub, name, token):
    """What a login is told."""
    with hub.mqtt() as client:
        return client.connect(name, f"{hub.name}/{name}/?api-version=2021-04-12", token)[0]


def login(hub, name, key):
    client = hub.mqtt()
    assert client.connect(name, f"{hub.name}/{name}/?api-version=2021-04-12", sas.token(key, f"{hub.name}/devices/{name}"))[0] == 0
    return client


# --- a running hub acts on it at once -----------------------------------------------------------------------------


def test_a_created_device_gets_in_at_once_and_a_deleted_one_is_out(hub, tool, name):
    string = tool("device", "create", name)
    assert f"HostName={hub.name}:{hub.https};" in string
    with login(hub, name, key_of(string)) as client:
        assert hub.rest("GET", path("devices", name)).json["connectionState"] == "Connected"
        tool("device", "delete", name)
        assert client.ended(2) == []
    assert answer_code(hub, name, sas.token(key_of(string), f"{hub.name}/devices/{name}")) == 5


def test_disabling_cuts_the_device_off_within_a_second(hub, tool, name):
    string = tool("device", "create", name)
    with login(hub, name, key_of(string)) as client:
        tool("device", "disable", name, "--reason", "stolen")
        assert client.ended(1) == []
    token = sas.token(key_of(string), f"{hub.name}/devices/{name}")
    assert answer_code(hub, name, token) == 5
    tool("device", "enable", name)
    assert answer_code(hub, name, token) == 0


def test_a_rotated_key_is_good_for_nothing(hub, tool, name):
    old = key_of(tool("device", "create", name))
    new = key_of(tool("device", "rotate-key", name))
    assert new != old
    assert answer_code(hub, name, sas.token(old, f"{hub.name}/devices/{name}")) == 5
    assert answer_code(hub, name, sas.token(new, f"{hub.name}/devices/{name}")) == 0
    secondary = key_of(tool("device", "connection-string", name, "--secondary"))
    assert answer_code(hub, name, sas.token(secondary, f"{hub.name}/devices/{name}")) == 0


def test_a_module_gets_in_with_its_own_string(hub, tool, name):
    tool("device", "create", name)
    fields = sas.parse_connection_string(tool("module", "create", name, "camera"))
    assert (fields["DeviceId"], fields["ModuleId"]) == (name, "camera")
    token = sas.token(fields["SharedAccessKey"], f"{hub.name}/devices/{name}/modules/camera")
    assert answer_code(hub, f"{name}/camera", token) == 0
    tool("module", "delete", name, "camera")
    assert answer_code(hub, f"{name}/camera", token) == 5


def test_the_sas_command_makes_what_the_hub_takes(hub, tool, name):
    tool("device", "create", name)
    assert answer_code(hub, name, tool("sas", "--device", name)) == 0
    answer = hub.rest("GET", path("devices", name), token=tool("sas", "--policy", "iothubowner", "--ttl", "5m"))
    assert answer.status == 200
    other = name + "-other"
    tool("device", "create", other)
    assert answer_code(hub, other, tool("sas", "--device", name)) == 5


def test_policies_act_at_once(hub, tool, name):
    policy = name[:50]
    key = key_of(tool("policy", "create", policy, "--rights", "RegistryRead"))

    def status(with_key, method="GET"):
        token = sas.token(with_key, hub.name, policy)
        return hub.rest(method, path("devices", name + "-x"), {"deviceId": name + "-x"} if method == "PUT" else None, token=token).status

    assert status(key) == 404
    assert status(key, "PUT") == 401
    new = key_of(tool("policy", "rotate", policy))
    assert status(key) == 401 and status(new) == 404
    tool("policy", "delete", policy)
    assert status(new) == 401
    tool.fails(1, "policy", "delete", policy)


def test_imported_devices_get_in_at_once(hub, tool, name, tmp_path):
    tool("device", "create", name)
    file = tmp_path / "devices.jsonl"
    tool("device", "export", str(file))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    [mine] = [line for line in lines if line["id"] == name and not line.get("moduleId")]
    many = [{**mine, "id": f"{name}-{number}", "importMode": "create"} for number in range(250)]
    text = "".join(json.dumps(line) + "\n" for line in many)
    tool("device", "import", "-", stdin=text)
    key = mine["authentication"]["symmetricKey"]["primaryKey"]
    for number in (0, 99, 100, 249):
        one = f"{name}-{number}"
        assert answer_code(hub, one, sas.token(key, f"{hub.name}/devices/{one}")) == 0
    gone = "".join(json.dumps({"id": line["id"], "importMode": "delete"}) + "\n" for line in many)
    tool("device", "import", "-", stdin=gone)
    assert f"{name}-7" not in {one["deviceId"] for one in tool.json("device", "list")}


# --- streams ------------------------------------------------------------------------------------------------------


def test_running_streams_are_listed_and_closed(hub, tool, name):
    key = key_of(tool("device", "create", name))
    device = type("Named", (), {"name": name, "module": None})
    with login(hub, name, key) as client:
        assert client.subscribe("$iothub/streams/POST/#") == [0]
        kept_service, kept_device = streams.pair(hub, device, client, name="kept")
        service, far = streams.pair(hub, device, client, name="22")
        service.send(b"hello")
        assert far.bytes(5) == b"hello"

        def open_streams():
            return {one["name"]: one for one in tool.json("stream", "list") if one["deviceId"] == name and one["state"] != "closed"}

        # A stream is listed a moment after its first bytes.
        waiting.until(lambda: set(open_streams()) == {"kept", "22"}, 5, "both streams in the list")
        listed = open_streams()
        assert name in tool("stream", "list")
        tool("stream", "close", listed["22"]["id"])
        for leg in (service, far):
            assert leg.receive(5).opcode == CLOSE
            leg.close()
        waiting.until(lambda: [one["name"] for one in tool.json("stream", "list") if one["deviceId"] == name] == ["kept"], 5)
        assert f"{listed['22']['id']}: no such stream: iotstream stream list" in tool.fails(1, "stream", "close", listed["22"]["id"])
        # The other one noticed nothing.
        kept_device.send(b"still here")
        assert kept_service.bytes(10) == b"still here"
        kept_service.shut()
        kept_device.close()
        waiting.until(lambda: [one for one in tool.json("stream", "list") if one["deviceId"] == name] == [], 5)


def test_a_closed_stream_ends_the_local_connection(hub, tool, keep):
    server = keep(Server(echo))
    device = hub.create()
    keep(Agent(hub, device, f"it=127.0.0.1:{server.port}"))
    forward = keep(Forward(hub, device, "0:it"))
    with forward.connect() as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
        [stream] = waiting.until(lambda: [one for one in tool.json("stream", "list") if one["deviceId"] == device.name], 5)
        tool("stream", "close", stream["id"])
        client.settimeout(5)
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
    waiting.until(lambda: server.open == 0, 5)
    # The way itself stays.
    with forward.connect() as client:
        client.sendall(b"again")
        assert receive_exactly(client, 5) == b"again"


def test_removing_a_streams_file_closes_it(hub, name):
    device = hub.create(name)
    with device.listen() as client:
        service, far = streams.pair(hub, device, client)

        def files():
            return [file for file in pathlib.Path(hub.state).rglob("run/streams/*")
                    if not file.name.endswith(".new") and json.loads(file.read_text())["deviceId"] == name]

        [file] = waiting.until(files, 5)
        assert os.stat(file.parent).st_mode & 0o007 == 0
        file.unlink()
        assert service.receive(5).opcode == CLOSE and far.receive(5).opcode == CLOSE
        service.close()
        far.close()


# --- many hands ---------------------------------------------------------------------------------------------------


def test_tools_and_service_write_at_the_same_time(hub, name):
    """Two processes at the same files, and nothing gets lost."""
    token = hub.service_token()

    def by_tool(number):
        hub.admin("device", "create", f"{name}-t{number}")

    def by_rest(number):
        answer = hub.rest("PUT", path("devices", f"{name}-r{number}"), {"deviceId": f"{name}-r{number}"}, token=token)
        assert answer.status == 200, answer

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(by_tool, number) for number in range(20)] + [pool.submit(by_rest, number) for number in range(60)]
        for one in pending:
            one.result()
    wanted = {f"{name}-t{number}" for number in range(20)} | {f"{name}-r{number}" for number in range(60)}
    assert wanted <= {one["deviceId"] for one in hub.admin_json("device", "list")}
    assert wanted <= {one["deviceId"] for one in hub.rest("GET", path("devices")).json}


def test_of_many_who_create_the_same_device_one_succeeds(hub, name):
    def attempt(number):
        if number % 2:
            return hub.admin("device", "create", name, check=None).returncode == 0
        return hub.rest("PUT", path("devices", name), {"deviceId": name}).status == 200

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(12))) == 1


# --- names and places ---------------------------------------------------------------------------------------------


def test_every_linked_name_is_its_role(iotstream, tmp_path):
    for role in ("hub", "dps", "agent", "forward", "cert"):
        link = tmp_path / f"iotstream-{role}"
        link.symlink_to(iotstream)
        assert run([link, "--help"], check=0).stdout == run([iotstream, role, "--help"], check=0).stdout
        result = run([link, "--no-such-option"], check=64)
        assert result.stdout == "" and result.stderr.startswith(f"iotstream {role}: ")


def test_a_hub_and_an_agent_under_their_linked_names(new_hub, keep, tmp_path):
    hub = new_hub(start=False)
    program = hub.binary
    hub.binary = str(tmp_path / "iotstream-hub")
    os.symlink(program, hub.binary)
    arguments = [word for word in hub.arguments() if word != "hub"]
    hub.process = Process(arguments)
    ready = hub.process.wait_line(r"iotstream hub: ready https=\S+:(\d+) mqtts=\S+:(\d+)")
    hub.https, hub.mqtts, hub.binary = int(ready[1]), int(ready[2]), program
    device = hub.create()
    secret = tmp_path / "device"
    secret.write_text(device.connection_string)
    secret.chmod(0o600)
    os.symlink(program, tmp_path / "iotstream-agent")
    agent = keep(Process([tmp_path / "iotstream-agent", "--connection-string-file", secret, "--ca", hub.ca, "--allow", "22", "--state",
                          tmp_path / "agent"]))
    agent.wait_line(f"iotstream agent: ready {device.name} via ")


def test_an_option_goes_before_the_environment(hub, name, tmp_path):
    """--state acts where it says, whatever connection string the environment holds."""
    environment = {"IOTSTREAM_STATE": str(tmp_path / "nowhere")}
    run([hub.binary, "device", "create", name, "--state", hub.state], environment, check=0)
    result = run([hub.binary, "device", "show", name], environment)
    assert result.returncode == 66 and len(result.stderr.splitlines()) == 1
    environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string()}
    shown = run([hub.binary, "device", "show", name, "--json", "--ca", hub.ca], environment, check=0)
    assert json.loads(shown.stdout)["deviceId"] == name


def test_the_rights_of_the_connection_string_bound_the_tool(hub, name, tmp_path):
    hub.admin("policy", "create", name[:50], "--rights", "RegistryRead")
    environment = {"IOTSTREAM_CONNECTION_STRING": hub.connection_string(name[:50])}
    run([hub.binary, "device", "list", "--ca", hub.ca], environment, check=0)
    for words in (["device", "create", name], ["policy", "list"], ["stream", "list"]):
        result = run([hub.binary, *words, "--ca", hub.ca], environment)
        assert result.returncode == 77 and result.stdout == "", (words, result)
        assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith(f"iotstream {words[0]}: ")
    assert hub.rest("GET", path("devices", name)).status == 404
