"""Shared access signatures, made the way the several client libraries make them."""

import base64
import hashlib
import hmac
import time
import urllib.parse


def encode(text):
    return urllib.parse.quote(text, safe="")


def lower_hex(text):
    """`%2F` becomes `%2f`."""
    pieces = text.split("%")
    return pieces[0] + "".join("%" + piece[:2].lower() + piece[2:] for piece in pieces[1:])


def signature(key, resource, expiry):
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def token(key, resource, policy=None, ttl=3600, expiry=None, order="sr sig se skn", encoded=True, escape_signature=True):
    """A token for `resource`, which is percent-encoded first unless `encoded` is false."""
    text = encode(resource) if encoded else resource
    expiry = int(time.time()) + ttl if expiry is None else expiry
    sign = signature(key, text, expiry)
    fields = {"sr": text, "sig": encode(sign) if escape_signature else sign, "se": str(expiry), "skn": policy}
    return "SharedAccessSignature " + "&".join(f"{name}={fields[name]}" for name in order.split() if fields[name] is not None)


def parse_connection_string(text):
    return dict(part.split("=", 1) for part in text.strip().split(";") if part)
