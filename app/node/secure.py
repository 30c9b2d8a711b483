"""TLS of the node: both sides show certificates that the same authorities signed."""

import socket
import ssl
from typing import Any

from spectac.app.node.settings import Tls

HANDSHAKE_S = 30.0
"""A peer that says nothing for so long during the handshake is dropped."""


class _PatientContext(ssl.SSLContext):
    """Leaves the handshake to the association's own thread: one silent peer must not keep the others waiting."""

    def wrap_socket(self, sock: socket.socket, *arguments: Any, **more: Any) -> ssl.SSLSocket:
        sock.settimeout(HANDSHAKE_S)
        return super().wrap_socket(sock, *arguments, **{**more, "do_handshake_on_connect": False})


def server_context(tls: Tls) -> ssl.SSLContext:
    """Context of the listening side, which demands a certificate."""
    context = _PatientContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(cafile=tls.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Context of the sending side. Certificates of the authorities are enough; names in them are not compared."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.authorities)
    context.check_hostname = False
    context.load_cert_chain(tls.certificate, tls.key)
    return context
