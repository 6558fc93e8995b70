"""
The certificates of one virtual server: its own, and those of single addresses.

:Room: ``server``
:IIS: ACC-10.
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field
from twisted.logger import Logger

from mailhost.config.settings import ListenAddress, VirtualServerSettings
from mailhost.net.certificates import CertificateFiles, CertificateProblem, doubts
from mailhost.net.server_tls import ClientCertificates, ServerTLS, Visitors


@define(eq=False)
class Certificates:
    """
    :ivar seconds: tells the time.
    """

    seconds: Callable[[], float]
    _own: ServerTLS | None = field(default=None, init=False)
    _by_address: dict[ListenAddress, ServerTLS] = field(factory=dict, init=False)

    _log = Logger()

    def configure(self, settings: VirtualServerSettings) -> None:
        """
        Go by *settings* for connections that come from now on.

        A faulty certificate stops nobody: STARTTLS is answered 454 until it is mended.
        """
        tls = settings.access.tls
        visitors = Visitors(tls.client_ca, ClientCertificates[tls.client.upper()])
        self._own, self._by_address = None, {}
        for files, key in certificate_files(settings):
            self._tell_doubts(files, settings.name, name_for(settings, key))
        own = own_certificates(settings)
        if own:
            self._own = ServerTLS(own, tls.minimum, self.seconds, visitors)
        for address in settings.listen:
            if address.certificate is not None:
                files = CertificateFiles(address.certificate, address.key_file)
                self._by_address[address] = ServerTLS((files,), tls.minimum, self.seconds, visitors)

    def _tell_doubts(self, files: CertificateFiles, server: str, fqdn: str | None) -> None:
        try:
            for words in doubts(files, fqdn, self.seconds()):
                self._log.warn("{server}: {words}", server=server, words=words)
        except CertificateProblem as problem:
            self._log.error("{server}: {problem}", server=server, problem=str(problem))

    def find(self, address: ListenAddress) -> ServerTLS | None:
        """What clients of *address* are shown; `None`: there is no TLS."""
        return self._by_address.get(address, self._own)


def own_certificates(settings: VirtualServerSettings) -> tuple[CertificateFiles, ...]:
    """Those of the virtual server; the first is for clients that ask for no other's name."""
    tls = settings.access.tls
    if tls.certificate is None:
        return ()
    others = (CertificateFiles(one.certificate, one.key_file) for one in tls.certificates)
    return CertificateFiles(tls.certificate, tls.key_), *others


def certificate_files(
    settings: VirtualServerSettings,
) -> Iterator[tuple[CertificateFiles, tuple[str | int, ...]]]:
    """Each certificate, and its key in the configuration."""
    for number, files in enumerate(own_certificates(settings)):
        where = ("certificates", number - 1) if number else ("certificate",)
        yield files, ("access", "tls", *where)
    for number, address in enumerate(settings.listen):
        if address.certificate is not None:
            files = CertificateFiles(address.certificate, address.key_file)
            yield files, ("listen", number, "certificate")


def name_for(settings: VirtualServerSettings, key: tuple[str | int, ...]) -> str | None:
    """The name that the certificate at *key* has to be for; `None`: any that clients ask for."""
    return None if "certificates" in key else settings.fqdn
