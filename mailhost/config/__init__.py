"""
The configuration: what an operator may set, and how it is read.

:Room: ``config`` -- `settings` with its helpers is floor 1, `reader` with its helpers floor 7.
"""
