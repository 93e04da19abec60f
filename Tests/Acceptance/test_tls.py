"""What stock TLS clients see of the hub: versions, suites, certificate requests, resumption, and certificates changed under way."""

import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import types

import pytest

from harness import tls
from harness.hub import Hub
from harness.process import run


def s_client(hub, *options, port=None, stdin="GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
    """openssl's client with one request; what it printed."""
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"{hub.address}:{port or hub.https}", "-servername", hub.name, "-CAfile", str(hub.ca),
         "-ign_eof", *map(str, options)], input=stdin, capture_output=True, text=True, timeout=30)
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def device_files(iotstream, tmp_path_factory):
    """A device's certificate of a house the hub does not know."""
    directory = tmp_path_factory.mktemp("device")
    run([iotstream, "cert", "gen-root", "--dir", directory], check=0)
    run([iotstream, "cert", "gen-device", "press-17", "--dir", directory], check=0)
    return directory


@pytest.mark.parametrize("port", ["https", "mqtts"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_both_versions_on_both_ports_ask_for_a_certificate_of_anybody(hub, port, version):
    said = s_client(hub, version, port=getattr(hub, port), stdin="\x00\x00" if port == "mqtts" else "GET / HTTP/1.0\r\n\r\n")
    assert "Verify return code: 0 (ok)" in said
    assert "No client certificate CA names sent" in said
    assert re.search(r"Requested Signature Algorithms|Client Certificate Types", said, re.I), said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_older_versions_are_refused(hub, version):
    said = s_client(hub, version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert "Cipher is (NONE)" in said and "alert protocol version" in said, said


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA256",
                                   "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_suites_of_devices_are_served(hub, suite):
    assert f"Cipher is {suite}" in s_client(hub, "-tls1_2", "-cipher", suite)


@pytest.mark.parametrize("suite", ["AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "NULL", "ECDHE-ECDSA-AES128-SHA"])
def test_other_suites_are_not(hub, suite):
    assert "Cipher is (NONE)" in s_client(hub, "-tls1_2", "-cipher", f"{suite}@SECLEVEL=0")


@pytest.mark.parametrize("curve", ["X25519", "P-256", "P-384"])
def test_curves_of_devices_are_served(hub, curve):
    assert "Verify return code: 0 (ok)" in s_client(hub, "-curves", curve)


def test_small_fragments_are_honoured(hub):
    assert "Verify return code: 0 (ok)" in s_client(hub, "-maxfraglen", "512")


def test_renegotiation_is_refused(hub):
    # Not with -ign_eof: it takes R for data.
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"{hub.address}:{hub.https}", "-tls1_2", "-CAfile", str(hub.ca)], input="R\n",
        capture_output=True, text=True, timeout=30)
    assert "RENEGOTIATING" in result.stdout + result.stderr and "no renegotiation" in result.stdout + result.stderr


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_sessions_resume_again_and_again(hub, device_files, tmp_path, version):
    certificate = ["-cert", device_files / "press-17.cert.pem", "-key", device_files / "press-17.key.pem"]
    for options in ([], certificate):
        file = tmp_path / f"session{len(options)}"
        assert "\nNew, TLS" in s_client(hub, version, *options, "-sess_out", file)
        for _ in range(3):
            said = s_client(hub, version, *options, "-sess_in", file, *(["-sess_out", file] if version == "-tls1_3" else []))
            assert "\nReused, TLS" in said, said


def test_a_stranger_who_speaks_no_tls_harms_nobody(hub):
    for first in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", b"\x16\x03\x01"):
        for port in (hub.https, hub.mqtts):
            with socket.create_connection((hub.address, port), timeout=10) as plain:
                plain.sendall(first)
                try:
                    plain.shutdown(socket.SHUT_WR)
                    while plain.recv(4096):
                        pass
                except OSError:  # reset, for one; but not silence
                    assert not isinstance(sys.exc_info()[1], TimeoutError)
    assert hub.rest("GET", "/devices/nobody?api-version=2021-04-12").status == 404


def serial(hub):
    """The serial number of the certificate that a new connection gets."""
    with tls.connect((hub.address, hub.https), hub.ca) as connection:
        return connection.getpeercert()["serialNumber"]


@pytest.fixture
def own(iotstream, certificates, tmp_path):
    """A hub whose certificate files are the test's own."""
    directory = tmp_path / "certs"
    shutil.copytree(certificates.directory, directory)
    files = types.SimpleNamespace(
        root=directory / certificates.root.name, chain=directory / certificates.chain.name, key=directory / certificates.key.name)
    hub = Hub(iotstream, files)

    def renew():
        """The same names with a new certificate, in a directory beside it."""
        other = tmp_path / "other"
        shutil.rmtree(other, ignore_errors=True)
        shutil.copytree(certificates.directory, other)
        for old in other.glob("localhost.*"):
            old.unlink()
        run([iotstream, "cert", "gen-server", "localhost", "127.0.0.1", "--dir", other], check=0)
        return other / files.chain.name, other / files.key.name

    hub.files, hub.renew = files, renew
    yield hub
    hub.remove()


@pytest.mark.parametrize("how", ["SIGHUP", "file"])
def test_a_new_certificate_is_for_new_connections(own, how):
    device = own.create()
    first = serial(own)
    token = own.service_token()
    with own.connect() as kept:
        mqtt = device.login()
        assert kept.exchange("GET", f"/devices/{device.name}?api-version=2021-04-12", None, None, token).status == 200
        chain, key = own.renew()
        shutil.copy(key, own.files.key)
        shutil.copy(chain, own.files.chain)
        if how == "SIGHUP":
            own.process.signal(signal.SIGHUP)
        own.process.wait_line("reloaded", 15)
        assert serial(own) != first
        assert kept.exchange("GET", f"/devices/{device.name}?api-version=2021-04-12", None, None, token).status == 200
        mqtt.ping()
        mqtt.close()


def test_a_broken_certificate_leaves_the_old_in_place_and_is_said_once(own):
    first = serial(own)
    own.files.chain.write_text("nonsense\n")
    own.process.signal(signal.SIGHUP)
    own.process.wait_line("reload-failed", 15)
    assert serial(own) == first
    chain, key = own.renew()
    shutil.copy(key, own.files.key)
    shutil.copy(chain, own.files.chain)
    own.process.wait_line("reloaded", 15)
    assert serial(own) != first
    failures = [line for line in own.process.lines if "reload-failed" in line]
    assert len(failures) <= 2 and all("nonsense" not in line for line in failures), failures


def test_python_of_a_device_pins_version_two(hub):
    settings = tls.context(hub.ca, maximum=ssl.TLSVersion.TLSv1_2)
    with tls.connect((hub.address, hub.mqtts), hub.ca, settings=settings) as connection:
        assert connection.version() == "TLSv1.2"
