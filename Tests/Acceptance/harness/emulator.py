"""A machine of its own with Debian's kernel, for what the kernel of this one may not have. It is emulated, and needs nothing of the host's
kernel; it sees the host's files, and what it writes is gone with it."""

import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = ROOT / ".build/emulator"

# In the order in which they need one another; what has no file is a part of the kernel already.
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "netfs", "fscache", "9pnet", "9pnet_virtio",
    "9p", "overlay", "cryptd", "crypto_simd", "aesni-intel", "gf128mul", "ghash-generic", "gcm", "libpoly1305", "libchacha",
    "chacha-x86_64", "chacha20-generic", "poly1305-x86_64", "poly1305_generic", "chacha20poly1305",
)

INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
for m in {modules}; do
    if [ -e /modules/$m.ko ]; then $b insmod /modules/$m.ko || echo "no module $m"; fi
done
$b mkdir -p /host /own /root
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /host
$b mount -t tmpfs -o mode=755 own /own
$b mkdir /own/files /own/work
$b mount -t overlay -o lowerdir=/host,upperdir=/own/files,workdir=/own/work files /root
for m in proc sysfs devtmpfs; do $b mount -t $m $m /root/$($b echo $m | $b sed 's/fs$//; s/tmp$//'); done
$b mkdir -p /root/dev/shm
$b mount -t tmpfs shm /root/dev/shm
$b mount -t tmpfs run /root/run
$b ip link set lo up
$b cp -r /modules /bin/busybox /command /root/run
$b chroot /root /bin/bash /run/command
echo "the machine ended with $?"
$b poweroff -f
"""


class Missing(Exception):
    """Why there can be no such machine here."""


def _call(arguments, **named):
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **named)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{arguments[0]}: {error}") from None
    if done.returncode != 0:
        raise Missing(f"{' '.join(map(str, arguments))}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
    return done.stdout


def _unpacked():
    """The kernel package and a static busybox, unpacked and installed nowhere."""
    whole = CACHE / "unpacked"
    if whole.is_dir():
        return whole
    newest = re.search(r"Depends: (linux-image-\S+)", _call(["apt-cache", "depends", "linux-image-amd64"]))
    if not newest:
        raise Missing("apt knows of no linux-image-amd64")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as directory:
        os.chmod(directory, 0o755)
        _call(["apt-get", "-qq", "download", newest[1], "busybox-static"], cwd=directory)
        for package in pathlib.Path(directory).glob("*.deb"):
            _call(["dpkg-deb", "-x", package, f"{directory}/unpacked"])
        os.rename(f"{directory}/unpacked", whole)
    return whole


def _archive(entries):
    """A cpio archive in the form that the kernel unpacks (its Documentation/driver-api/early-userspace/buffer-format.rst)."""
    made = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        made += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        made += bytes(-len(made) % 4) + data
        made += bytes(-len(made) % 4)
    return bytes(made)


def _start(unpacked, command, modules):
    """The first file system: what mounts the host's files and runs the command."""
    directories = [(name, 0o40755, b"") for name in ("bin", "modules", "proc", "dev")]
    names = [*MODULES, *modules]
    found = {path.stem: path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko")}
    files = [(f"modules/{name}.ko", 0o100644, found[name].read_bytes()) for name in names if name in found]
    files += [
        ("bin/busybox", 0o100755, (unpacked / "bin/busybox").read_bytes()),
        ("init", 0o100755, INIT.replace("{modules}", " ".join(MODULES)).encode()), ("command", 0o100644, command.encode()),
    ]
    return _archive(directories + files)


def run(command, modules=(), seconds=300):
    """Runs a shell script as root on a machine of two processors; its exit status and all that it has said.

    `modules` are laid below /run/modules, for the script to load with /run/busybox. Raises `Missing` where there can be no machine."""
    if platform.machine() != "x86_64":
        raise Missing(f"not on {platform.machine()}")
    if not shutil.which("qemu-system-x86_64"):
        raise Missing("qemu-system-x86 is not installed")
    unpacked = _unpacked()
    kernel = next(unpacked.glob("boot/vmlinuz-*"))
    with tempfile.NamedTemporaryFile(prefix="iotstream-emulator.") as start:
        start.write(_start(unpacked, command, modules))
        start.flush()
        arguments = [
            "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1536", "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", start.name, "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off", "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
        ]
        try:
            done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=seconds)
            said = done.stdout.decode(errors="replace").replace("\r", "")
        except subprocess.TimeoutExpired as error:
            return None, (error.stdout or b"").decode(errors="replace").replace("\r", "")
    ended = re.search(r"the machine ended with (\d+)", said)
    return int(ended[1]) if ended else None, said
