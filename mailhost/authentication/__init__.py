"""
Who is the client?  Passwords are checked in threads of their own.

:Room: ``authentication``
:RFC: 4954, 4616, 5802.
:IIS: ACC-01..05.
:Called by: `mailhost.net` for each AUTH, `mailhost.server` (one `Logins` for each
    virtual server), `mailhost.cli` (``mailhost passwd``).
"""
