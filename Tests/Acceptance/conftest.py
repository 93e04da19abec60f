"""Fixtures of the acceptance and interoperability tests."""

import os
import pathlib
import resource
import tempfile

import pytest

from harness.hub import Certificates, Hub

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pytest_configure():
    # A thousand streams need their descriptors in the tests as well as in the programs.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536, hard))


@pytest.fixture(scope="session")
def iotstream():
    """The built program."""
    path = pathlib.Path(os.environ.get("IOTSTREAM_BINARY") or ROOT / ".build/debug/iotstream")
    assert path.is_file(), f"{path} is not built"
    return str(path)


@pytest.fixture(scope="session")
def certificates(iotstream):
    with tempfile.TemporaryDirectory(prefix="iotstream-certs.") as directory:
        yield Certificates(iotstream, pathlib.Path(directory) / "certs")


@pytest.fixture(scope="module")
def hub(iotstream, certificates):
    """A hub that the tests of a file share; a test that harms it takes one of its own."""
    made = Hub(iotstream, certificates)
    yield made
    assert made.process.running(), made.process.log
    made.remove()


@pytest.fixture
def new_hub(iotstream, certificates):
    """Makes hubs that live as long as the test."""
    made = []

    def make(**named):
        made.append(Hub(iotstream, certificates, **named))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def keep():
    """Ends what a test started, last first: programs, servers, connections, namespaces."""
    held = []

    def hold(thing):
        held.append(thing)
        return thing

    yield hold
    for thing in reversed(held):
        for name in ("stop", "remove", "close"):
            if hasattr(thing, name):
                getattr(thing, name)()
                break
