"""Tests for `mailhost.workers`."""
