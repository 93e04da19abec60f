"""`iotstream doctor`: each thing that may stand in the way is found and named."""

import contextlib
import json
import pathlib
import socket
import threading

import pytest

from harness.process import run


def doctor(hub, *arguments, secret=None, check=0, environment=None, ca=True):
    words = [hub.binary, "doctor", *arguments, "--json"] + (["--ca", hub.ca] if ca else [])
    variables = {"IOTSTREAM_CONNECTION_STRING": secret} if secret else {}
    result = run(words, {**variables, **(environment or {})}, check=check)
    return {finding["check"]: finding for finding in json.loads(result.stdout)}


def place(hub):
    return f"localhost:{hub.https}"


def test_an_open_way_is_all_well(hub):
    findings = doctor(hub, place(hub))
    assert list(findings) == ["proxy", "name", "connection", "tls", "certificate", "service", "clock", "websocket"]
    assert {finding["outcome"] for finding in findings.values()} == {"ok"}
    assert not [finding for finding in findings.values() if "advice" in finding]


def test_credentials_of_devices_and_policies_are_tried(hub):
    device = hub.create()
    hub.admin("policy", "create", "doctors", "--rights", "ServiceConnect")
    for secret, who in [(device.connection_string, f"device {device.name}"), (hub.connection_string(), "policy iothubowner"),
                        (hub.connection_string("doctors"), "policy doctors")]:
        found = doctor(hub, secret=secret)["credentials"]
        assert (found["outcome"], found["detail"]) == ("ok", f"{who} is accepted")


def test_what_the_hub_does_not_accept_is_a_failure(hub):
    device = hub.create()
    hub.admin("device", "disable", device.name)
    wrong = hub.connection_string().replace("SharedAccessKey=", "SharedAccessKey=AAAA")
    for secret in [device.connection_string, wrong]:
        found = doctor(hub, secret=secret, check=77)["credentials"]
        assert found["outcome"] == "failure" and found["advice"]
        assert secret.split("SharedAccessKey=")[1] not in json.dumps(found)


def test_the_credentials_take_no_message(hub):
    device = hub.create()
    hub.admin("message", "send", device.name, "for the device")
    doctor(hub, secret=device.connection_string)
    client = device.login()
    client.subscribe(f"devices/{device.name}/messages/devicebound/#")
    assert client.receive(10).payload == b"for the device"


def test_an_unknown_root_is_named_and_nothing_behind_it_is_tried(hub):
    findings = doctor(hub, place(hub), check=69, ca=False)
    assert list(findings) == ["proxy", "tls"] and "certificate refused" in findings["tls"]["detail"]
    assert "--ca" in findings["tls"]["advice"]


def test_a_name_without_an_address(hub):
    assert doctor(hub, "nowhere.invalid", check=69)["name"]["outcome"] == "failure"


def test_a_closed_port_and_a_closed_proxy(hub):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert "refused" in doctor(hub, f"127.0.0.1:{port}", check=69)["connection"]["detail"]
        found = doctor(hub, place(hub), "--proxy", f"http://127.0.0.1:{port}", check=69)
        assert found["proxy"]["detail"] == f"127.0.0.1:{port} is used"
        assert f"proxy 127.0.0.1:{port}" in found["connection"]["detail"]
        found = doctor(hub, place(hub), environment={"https_proxy": f"http://127.0.0.1:{port}", "no_proxy": "localhost"})
        assert "exception" in found["proxy"]["detail"]


@pytest.mark.parametrize("answer, check", [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "tunnel"),
    (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "tunnel"),
    (b"SSH-2.0-nobody\r\n\r\n", "tunnel"),
])
def test_a_proxy_that_does_not_let_us_through(hub, answer, check):
    with socket.create_server(("127.0.0.1", 0)) as server:
        def refuse():
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(answer)
                with contextlib.suppress(OSError):
                    client.recv(1)

        thread = threading.Thread(target=refuse)
        thread.start()
        found = doctor(hub, place(hub), "--proxy", f"http://127.0.0.1:{server.getsockname()[1]}", check=69)
        thread.join()
        assert found[check]["outcome"] == "failure" and found[check]["advice"]


def test_what_is_no_hub_is_told_from_one(hub):
    found = doctor(hub, f"localhost:{hub.mqtts}", check=69)
    assert found["tls"]["outcome"] == "ok" and found["service"]["outcome"] == "failure"


def test_a_clock_that_is_off(hub):
    library = next(iter(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    assert library, "libfaketime is missing"
    for offset, outcome, status in [("+120s", "warning", 0), ("+2h", "failure", 1)]:
        found = doctor(hub, place(hub), check=status, environment={"LD_PRELOAD": str(library), "FAKETIME": offset})
        assert found["clock"]["outcome"] == outcome and "ahead of the hub's" in found["clock"]["detail"]
    # Before the hub's certificate begins there is no answer that could tell the time.
    found = doctor(hub, place(hub), check=69, environment={"LD_PRELOAD": str(library), "FAKETIME": "-3d"})
    assert "clock" in found["tls"]["detail"] and "not yet valid" in found["tls"]["detail"]


def test_people_get_a_line_for_each_step_and_what_to_do(hub):
    result = run([hub.binary, "doctor", place(hub)], check=69)
    lines = result.stdout.splitlines()
    assert lines[0] == "ok    proxy  none is used"
    assert lines[1].startswith("FAIL  tls    ") and lines[2].strip().startswith("-> ")
    assert result.stderr == ""


def test_bad_command_lines(hub):
    assert run([hub.binary, "doctor"], check=64).stderr.startswith("iotstream doctor: which hub?")
    run([hub.binary, "doctor", "a/b"], check=64)
    run([hub.binary, "doctor", "localhost", "--ca", "/nowhere"], check=66)
    run([hub.binary, "doctor"], {"IOTSTREAM_CONNECTION_STRING": "HostName=h;Nonsense"}, check=78)
