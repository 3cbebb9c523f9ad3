"""Starting Spark, with one clear line when that fails."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from droptape.analyze.errors import QueryError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL = "local[*]"
_REACH_S = 5
_PARTITIONS = "spark.sql.shuffle.partitions"
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.log.level": "OFF",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # A partition is what its folder says: no date, no number.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


def start(master: str | None) -> SparkSession:
    """Return the session of this process, started when there is none.

    Args:
        master: as Spark writes it; that of SPARK_MASTER or this machine when None.

    Raises:
        QueryError: PySpark or Java is missing, or the master does not answer.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as exc:
        raise QueryError(
            f"Spark is not installed ({exc.name}): pip install 'droptape[fleet]'"
        ) from exc
    active = SparkSession.getActiveSession()
    if active is not None and master not in (None, active.sparkContext.master):
        raise QueryError(f"this process has Spark at {active.sparkContext.master} already")
    if active is not None:
        return active
    _need_java()
    chosen = master or os.environ.get("SPARK_MASTER") or LOCAL
    _need_master(chosen)
    builder = SparkSession.builder.master(chosen).appName("droptape")
    # Spark makes this folder, for tables of its own that nobody asks for: not where the user is.
    warehouse = tempfile.mkdtemp(prefix="droptape-spark-")
    atexit.register(shutil.rmtree, warehouse, ignore_errors=True)
    for name, value in {**_SETTINGS, "spark.sql.warehouse.dir": Path(warehouse).as_uri()}.items():
        builder = builder.config(name, value)
    try:
        with _quiet() as said:
            session: SparkSession = builder.getOrCreate()
    except (PySparkException, OSError, Exception) as exc:
        raise QueryError(f"Spark does not start at {chosen}: {_why(exc, said)}") from exc
    for noisy in ("SQLQueryContextLogger", "DataFrameQueryContextLogger", "py4j"):
        logging.getLogger(noisy).disabled = True  # what they tell is in the error
    if not session.sparkContext.getConf().contains(_PARTITIONS):
        # Two hundred tasks for every small answer would be the default.
        parts = max(2, 2 * session.sparkContext.defaultParallelism)
        session.conf.set(_PARTITIONS, str(parts))
    return session


def _need_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if not (home and Path(home, "bin", "java").exists()) and shutil.which("java") is None:
        raise QueryError("Spark needs Java 17, for instance openjdk-17-jre-headless")


def _need_master(master: str) -> None:
    """Ask whether anybody answers: Spark itself would try for a minute."""
    if not master.startswith("spark://"):
        return
    for one in master.removeprefix("spark://").split(","):
        try:
            place = urlsplit(f"//{one}")
            socket.create_connection((place.hostname or "", place.port or 7077), _REACH_S).close()
        except (OSError, ValueError) as exc:
            problem = exc
        else:
            return
    raise QueryError(f"no Spark master answers at {master}: {problem}")


@contextmanager
def _quiet() -> Iterator[Path]:
    """Keep what the Java machine writes to standard error in a file, as long as it runs."""
    fd, name = tempfile.mkstemp(prefix="droptape-spark-", suffix=".log")
    kept = os.dup(2)
    sys.stderr.flush()
    os.dup2(fd, 2)
    os.close(fd)
    try:
        yield Path(name)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        Path(name).unlink(missing_ok=True)


def _why(exc: BaseException, said: Path) -> str:
    del said
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    caused = [line for line in lines if "Exception:" in line]
    return (caused or lines or [type(exc).__name__])[0]
