"""Stock clients from elsewhere against the hub.

Several of them know no ports but 443 and 8883. So the whole test process moves to a machine of its own: a network namespace in which those
ports are free, and a mount namespace whose /etc/hosts knows `hub.test`. Both vanish with the process.
"""

import ctypes
import importlib.util
import os
import pathlib
import sys
import tempfile

import pytest

ACCEPTANCE = pathlib.Path(__file__).resolve().parents[1] / "Acceptance"
sys.path.insert(0, str(ACCEPTANCE))

from harness.hub import Hub  # noqa: E402
from harness.process import run  # noqa: E402

_specification = importlib.util.spec_from_file_location("acceptance_fixtures", ACCEPTANCE / "conftest.py")
_acceptance = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_acceptance)
iotstream, certificates, keep = _acceptance.iotstream, _acceptance.certificates, _acceptance.keep

CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000


@pytest.fixture(scope="session")
def machine():
    """From here on this process, and what it starts, lives on a machine of its own."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with tempfile.NamedTemporaryFile("w", prefix="iotstream-hosts.") as hosts:
        hosts.write("127.0.0.1 localhost hub.test\n::1 localhost\n")
        for number, name in enumerate(["test-hub", "prod-hub", "dps", "one"], 2):
            hosts.write(f"127.0.0.{number} {name}.test\n")
        hosts.flush()
        run(["mount", "--make-rprivate", "/"], check=0)
        run(["mount", "--bind", hosts.name, "/etc/hosts"], check=0)
        run(["ip", "link", "set", "lo", "up"], check=0)
        yield


@pytest.fixture(scope="session")
def hub(machine, iotstream, certificates):
    """The hub on its proper ports."""
    made = Hub(iotstream, certificates, ports=(443, 8883), name="hub.test")
    yield made
    assert made.process.running(), made.process.log
    made.remove()


@pytest.fixture
def trust(hub, monkeypatch):
    """The root's certificate as text; clients that look there find it in their environment."""
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(hub.ca))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return hub.ca.read_text()
