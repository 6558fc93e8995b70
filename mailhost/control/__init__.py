"""
Control: the one interface through which anybody sees or changes a running service.

:Room: ``control`` (floor 6); knows `mailhost.relay` and what is below, and the service and its
    virtual servers only as `mailhost.control.steered` describes them.
"""
