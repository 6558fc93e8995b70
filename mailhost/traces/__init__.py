"""
What has happened to each message, kept for a while.

:Room: ``traces`` (floor 2)
:Called by: `mailhost.intake`, `mailhost.relay` (note events), `mailhost.control` (asks).

The log is for whoever reads it from above to below; this is for whoever asks about one message.
"""
