"""TLS of the node: both sides show certificates that the same authorities signed."""

import ssl

from spectac.app.node.settings import Tls


def server_context(tls: Tls) -> ssl.SSLContext:
    """Context of the listening side, which demands a certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def client_context(tls: Tls) -> ssl.SSLContext:
    """Context of the sending side. Certificates of the authorities are enough; names in them are not compared."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=tls.authorities)
    context.check_hostname = False
    context.load_cert_chain(tls.certificate, tls.key)
    return context
