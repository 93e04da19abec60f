"""Raw TLS sockets with deadlines."""

import socket
import ssl
import struct


def context(ca=None, certificate=None, key=None, minimum=None, maximum=None):
    made = ssl.create_default_context(cafile=str(ca)) if ca else ssl._create_unverified_context()
    if certificate:
        made.load_cert_chain(str(certificate), str(key))
    if minimum:
        made.minimum_version = minimum
    if maximum:
        made.maximum_version = maximum
    return made


def connect(address, ca, name="localhost", seconds=10.0, settings=None, opener=None):
    """A verified TLS connection to `address`, (host, port). `opener` makes the TCP socket, say in another namespace."""
    plain = opener(address) if opener else socket.create_connection(address, timeout=seconds)
    plain.settimeout(seconds)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return (settings or context(ca)).wrap_socket(plain, server_hostname=name, suppress_ragged_eofs=False)


def reset_on_close(plain):
    """Makes close send RST."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_to_end(connection, seconds=10.0):
    """Everything until the other side ends, in whatever way."""
    connection.settimeout(seconds)
    collected = bytearray()
    while True:
        try:
            piece = connection.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            if isinstance(error, TimeoutError):
                raise
            return bytes(collected)
        if not piece:
            return bytes(collected)
        collected += piece
