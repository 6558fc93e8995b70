"""
Values: what everybody in the house talks about.

:Room: ``model`` -- frozen values; no clock, no I/O, no Twisted.
"""
