"""What somebody sees who watches the wire, or looks into a process."""

import re
import select
import socket
import struct
import threading


class Capture:
    """The TCP segments on the loopback device from and to some ports, until it is stopped."""

    ETH_P_IP = 0x0800

    def __init__(self, *ports):
        self.ports = ports
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(self.ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        self._socket.bind(("lo", 0))
        self.segments = []
        self._wake, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self):
        while True:
            ready, _, _ = select.select([self._socket, self._wake], [], [])
            if self._socket not in ready:
                return  # all that was queued has been taken
            data, address = self._socket.recvfrom(1 << 17)
            header = (data[0] & 15) * 4
            if address[2] == socket.PACKET_OUTGOING or data[9] != socket.IPPROTO_TCP:
                continue  # each packet of the loopback device is seen twice
            source, target = struct.unpack("!HH", data[header:header + 4])
            if source in self.ports or target in self.ports:
                self.segments.append((source, target, data[header + (data[header + 12] >> 4) * 4:]))

    def stop(self):
        self._end.close()
        self._thread.join(10)
        self._socket.close()
        return self

    def bytes(self, port):
        """What went to and from a port, segment by segment."""
        return b"".join(payload for source, target, payload in list(self.segments) if port in (source, target))


def memory_has(pid, marker):
    """How often the bytes stand in what a process can write to: its heap, stacks, buffers, data."""
    count = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not match:
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            kept = b""
            while start < end:
                memory.seek(start)
                try:
                    piece = memory.read(min(1 << 20, end - start))
                except OSError:
                    break  # a page that is not there
                if not piece:
                    break
                start += len(piece)
                count += (kept + piece).count(marker)
                kept = piece[-len(marker) + 1:]
    return count
