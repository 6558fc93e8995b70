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
from mailhost.net.tls import CertificateFiles, CertificateProblem, ServerTLS, doubts


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
        made: dict[CertificateFiles, ServerTLS] = {}
        self._own, self._by_address = None, {}
        for files, address in certificate_files(settings):
            if files not in made:
                self._tell_doubts(files, settings)
                made[files] = ServerTLS(files, settings.access.tls.minimum, self.seconds)
            if address is None:
                self._own = made[files]
            else:
                self._by_address[address] = made[files]

    def _tell_doubts(self, files: CertificateFiles, settings: VirtualServerSettings) -> None:
        try:
            for words in doubts(files, settings.fqdn, self.seconds()):
                self._log.warn("{server}: {words}", server=settings.name, words=words)
        except CertificateProblem as problem:
            self._log.error("{server}: {problem}", server=settings.name, problem=str(problem))

    def find(self, address: ListenAddress) -> ServerTLS | None:
        """What clients of *address* are shown; `None`: there is no TLS."""
        return self._by_address.get(address, self._own)


def certificate_files(
    settings: VirtualServerSettings,
) -> Iterator[tuple[CertificateFiles, ListenAddress | None]]:
    """Each certificate, and the address that it is for; `None`: for all others."""
    tls = settings.access.tls
    if tls.certificate is not None:
        yield CertificateFiles(tls.certificate, tls.key_), None
    for address in settings.listen:
        if address.certificate is not None:
            yield CertificateFiles(address.certificate, address.key_file), address
