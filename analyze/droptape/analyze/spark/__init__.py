"""Asking a dataset on Apache Spark: the same SQL, transpiled, and the same answers.

Needs the extra ``droptape[fleet]`` and Java 17.
"""
