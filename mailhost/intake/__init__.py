"""
The one way in: sockets, Pickup and programs hand their mail over here.

:Room: ``intake`` -- decides when a message is ours.
"""
