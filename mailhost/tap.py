"""
``twistd mailhost``: the command line of the service.

:Room: ``tap``
:Called by: twistd, through ``twisted/plugins/mailhost_plugin.py``.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from mailhost.config.reader import ConfigurationFaults, find_configuration, load_settings
from mailhost.config.settings import Settings
from mailhost.garbage import Caretaker
from mailhost.logs import TextObserver
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

    from mailhost.control.api import ControlAPI
    from mailhost.control.door import Door, Doors
    from mailhost.service import MailhostService
    from mailhost.workers.supervisor import Supervisor

    path: Path = options["path"]
    settings: Settings = options["settings"]
    make = MailhostService if settings.workers == 1 else Supervisor
    root = _Root(_log_file(options))
    service: Any = make(settings, reactor, lambda: load_settings(path))
    service.control = Door(settings.control, ControlAPI(service), reactor)
    if settings.metrics is not None:
        # Prometheus' client is loaded only where somebody asks for it.
        from mailhost.control.exposition import Exposition, Outlook

        outlook = Outlook(*settings.metrics, Exposition(service), reactor)
        service.control = Doors((service.control, outlook))
    service.setServiceParent(root)
    caretaker: Any = Caretaker(reactor)
    caretaker.setServiceParent(root)
    return root


def _log_file(options: Options) -> Any | None:
    """Where twistd's options send the log; `None` where they name a log of another kind."""
    given: Any = options.parent
    if given is None or given.get("logger") or given.get("syslog"):
        return None
    name = given.get("logfile")
    if given.get("nodaemon") and name in (None, "", "-"):
        return sys.stdout
    if name == "-":
        return None  # twistd refuses a daemon that writes to a terminal
    file = LogFile.fromFullPath(name or "twistd.log")  # type: ignore[no-untyped-call]  # upstream
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, lambda number, frame: file.rotate())
    return file


class _Root(MultiService):
    """What twistd runs; tells the application how it logs."""

    def __init__(self, log_file: Any | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # upstream has no annotations
        self._log_file = log_file

    def setServiceParent(self, parent: Any) -> None:
        """twistd looks for an observer in its application before it makes one."""
        if isinstance(parent, Componentized) and self._log_file is not None:
            application: Any = parent
            application.setComponent(ILogObserver, TextObserver(self._log_file))
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]  # upstream
