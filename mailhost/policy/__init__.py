"""
May this be accepted?  One question per file.

:Room: ``policy`` -- no Twisted, no I/O.
:Called by: `mailhost.intake`, in the order of the session.

Every check returns `None` when there is nothing against it, or the reply that
refuses.
"""
