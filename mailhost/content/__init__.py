"""
The inside of a mail object, as octets.

:Room: ``content`` -- header scan, address lists, trace fields, names of files;
    no Twisted, no I/O, no clock.
"""
