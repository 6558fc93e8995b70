"""
``twistd mailhost``: the command line of the service.

:Room: ``tap``
:Called by: twistd, through ``twisted/plugins/mailhost_plugin.py``.
"""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IService
from twisted.python import usage

from mailhost.config.reader import ConfigurationFaults, find_configuration, load_settings


class Options(usage.Options):
    """The options of ``twistd mailhost``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Run the virtual servers of a configuration file: etc/mailhost.yaml or etc/mailhost.ini "
        "below the current directory, else the same in /etc/mailhost."
    )
    optParameters = [["config", "c", None, "The configuration file, YAML or INI by its ending."]]

    def postOptions(self) -> None:
        """
        Read the configuration.

        :raises usage.UsageError: it has faults, all of them named.
        """
        given = self["config"]
        try:
            # Absolute, because twistd changes the directory when it goes into
            # the background.
            path = (Path(given) if given else find_configuration(Path.cwd())).absolute()
            self["settings"] = load_settings(path)
        except ConfigurationFaults as faults:
            raise usage.UsageError(f"\n{faults}") from None
        self["path"] = path


def makeService(options: Options) -> IService:
    """The service twistd runs."""
    # twistd chooses the reactor; nothing above this line may import it.
    from twisted.internet import reactor

    from mailhost.service import MailhostService

    path: Path = options["path"]
    return MailhostService(options["settings"], reactor, lambda: load_settings(path))
