"""Datasets: the recordings of many hosts, laid out so that every engine reads only what it needs.

    <table>/date=YYYY-MM-DD/host=NAME/<recording>-<content>.parquet   the rows
    _recordings/date=YYYY-MM-DD/host=NAME/<recording>.json            one for each whole recording
    _tables/<content>.json                                            what their columns mean
    .staging/                                                         being written

A recording is there when its file in ``_recordings`` is, which is written last and at once.
"""
