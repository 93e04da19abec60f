"""Streams whose records the kernel seals: on this machine if its kernel can, otherwise on an emulated one."""

import os
import pathlib
import socket
import sys

import pytest
from harness import emulator
from harness.process import run

HERE = pathlib.Path(__file__).resolve().parent
SCENARIO = [
    "-m", "pytest", "-q", "--timeout", "300", "-p", "no:cacheprovider", "--color=no", "--durations", "5", f"--rootdir={HERE}",
    HERE / "emulated/kernel_tls.py",
]


def is_offered():
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, 31, b"tls")  # TCP_ULP
        except FileNotFoundError:
            return False
        except OSError:
            return True
    return True


@pytest.mark.timeout(900)
def test_the_kernel_seals_what_legs_send(iotstream):
    variables = {"IOTSTREAM_BINARY": iotstream, "PYTHONDONTWRITEBYTECODE": "1"}
    if "IOTSTREAM_KERNEL_TLS_MIB" in os.environ:
        variables["IOTSTREAM_KERNEL_TLS_MIB"] = os.environ["IOTSTREAM_KERNEL_TLS_MIB"]
    if is_offered():
        done = run([sys.executable, *SCENARIO], variables, seconds=800)
        print(done.stdout)
        assert done.returncode == 0, done.stdout
        return
    variables |= {"HOME": "/run", "TMPDIR": "/run", "PATH": os.environ["PATH"]}  # what lies in /tmp is the host's, this test perhaps
    lines = [f"export {name}='{value}'" for name, value in variables.items()]
    lines += ["/run/busybox insmod /run/modules/tls.ko || exit 99", "ulimit -n 65536", f"exec '{sys.executable}' {' '.join(map(str, SCENARIO))}"]
    try:
        status, said = emulator.run("\n".join(lines), modules=["tls"], seconds=800)
    except emulator.Missing as missing:
        pytest.skip(f"no kernel with TLS, and no emulated one: {missing}")
    print(said)
    assert status == 0, said
