"""Bundles: one file with (a part of) a recording and its report, for a ticket.

A bundle is a zip archive. make.py writes one: tables.py reads a recording and cuts it to a
span of time, thin.py keeps some of the events with larger weights, redact.py replaces names and
addresses. container.py is the archive itself, written so that the same content gives the same
bytes, and read so that an archive from a stranger can do no harm; pages.py looks into its Parquet
files before anything else does.
"""
