"""What may stand between an end point and its hub: HTTP proxies that look into TLS, and connections that break."""

import select
import socket
import ssl
import struct
import threading

from . import tls
from .blind import read_head
from .programs import Server


class ConnectProxy(Server):
    """A CONNECT proxy; subclasses say whom `connect` reaches when `head` asks."""

    def __init__(self):
        super().__init__(self.carry)

    @property
    def options(self):
        return ["--proxy", f"http://127.0.0.1:{self.port}"]

    def carry(self, near):
        head = read_head(near)
        if head.endswith(b"\r\n\r\n"):
            self.connect(near, head)

    def connect(self, near, head):
        raise NotImplementedError


class Proxy(ConnectProxy):
    """A CONNECT proxy to a hub; subclasses say what becomes of the bytes."""

    def __init__(self, hub):
        self.hub = hub
        super().__init__()

    def connect(self, near, head):
        far = socket.create_connection((self.hub.address, self.hub.https), timeout=20)
        far.settimeout(None)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with far:
            self.relay(near, far)

    def relay(self, near, far):
        raise NotImplementedError


class Interceptor(Proxy):
    """Ends TLS on both sides and passes on what is inside. It knows nothing of bytes behind a close_notify: it ends both connections,
    or leaves them open and silent."""

    def __init__(self, hub, hangs=False):
        self.hangs = hangs
        self.connections = 0
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(str(hub.certificates.chain), str(hub.certificates.key))
        self._client = tls.context(hub.ca)
        self.released = threading.Event()
        super().__init__(hub)

    def stop(self):
        self.released.set()
        super().stop()

    def relay(self, near, far):
        self.connections += 1
        near, far = self._server.wrap_socket(near, server_side=True), self._client.wrap_socket(far, server_hostname=self.hub.name)
        for one in (near, far):
            one.setblocking(False)
        waiting = {near: b"", far: b""}
        other = {near: far, far: near}
        try:
            while True:
                for one in (near, far):
                    target = other[one]
                    while not waiting[target]:
                        try:
                            piece = one.recv(65536)
                        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                            break
                        if not piece:
                            if self.hangs:
                                self.released.wait(60)
                            return
                        waiting[target] = piece
                        waiting[target] = self._push(target, piece)
                for one in (near, far):
                    if waiting[one]:
                        waiting[one] = self._push(one, waiting[one])
                select.select([near, far], [one for one in (near, far) if waiting[one]], [], 5)
        except OSError:
            pass
        finally:
            near.close()
            far.close()

    @staticmethod
    def _push(target, piece):
        while piece:
            try:
                piece = piece[target.send(piece):]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
        return piece


class Cutter(Proxy):
    """Passes bytes on as they are, and breaks each new connection after a number of them, either way counted."""

    def __init__(self, hub):
        self.limit = None
        self.resets = True
        super().__init__(hub)

    def relay(self, near, far):
        left = [self.limit]
        done = threading.Event()

        def copy(source, target):
            try:
                while data := source.recv(65536):
                    if left[0] is not None:
                        data, left[0] = data[:left[0]], left[0] - len(data)
                    target.sendall(data)
                    if left[0] is not None and left[0] <= 0:
                        break
                else:
                    target.shutdown(socket.SHUT_WR)
                    return
            except OSError:
                pass
            done.set()
            for one in (source, target):
                if self.resets:
                    tls.reset_on_close(one)
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

        other = threading.Thread(target=copy, args=(far, near), daemon=True)
        other.start()
        copy(near, far)
        other.join()
        if done.is_set() and self.resets:
            for one in (near, far):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Tunnel(ConnectProxy):
    """A CONNECT proxy to whatever port of this machine is asked for; what goes through it is nobody's business.

    `places` are names with ports that stand for other ports."""

    def __init__(self, places=None):
        self.asked, self.places = [], places or {}
        super().__init__()

    def connect(self, near, head):
        target = head.split()[1].decode()
        self.asked.append(target)
        with socket.create_connection(("127.0.0.1", self.places.get(target) or int(target.rpartition(":")[2])), timeout=20) as far:
            far.settimeout(None)
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join(20)

    @staticmethod
    def _pump(source, sink):
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
