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
from mailhost.config.settings import Settings
from mailhost.workers.privileges import CannotChangeUser, check_user


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
            check_user(self["settings"].user)
        except CannotChangeUser as problem:
            raise usage.UsageError(str(problem)) from None
        except ConfigurationFaults as faults:
            raise usage.UsageError(f"\n{faults}") from None
        self["path"] = path


def makeService(options: Options) -> IService:
    """The service twistd runs."""
    # twistd chooses the reactor; nothing above this line may import it.
    from twisted.internet import reactor

    from mailhost.service import MailhostService
    from mailhost.workers.supervisor import Supervisor

    path: Path = options["path"]
    settings: Settings = options["settings"]
    make = MailhostService if settings.workers == 1 else Supervisor
    return make(settings, reactor, lambda: load_settings(path))
