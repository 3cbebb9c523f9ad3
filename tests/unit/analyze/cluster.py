"""Spark as a small cluster on loopback: a master and two workers, each with one processor."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark

_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
_DEPLOY = "org.apache.spark.deploy"
_START_S = 60
# Small answers: compiling each query to Java would take longer than to interpret it.
SMALL = {
    "spark.executor.memory": "512m",
    "spark.driver.memory": "768m",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.shuffle.partitions": "2",
    "spark.executor.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


def _wait(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        found = re.search(pattern, log.read_text())
        if found:
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"Spark did not start: {log.read_text()[-2000:]}")


@contextmanager
def spark_cluster(folder: Path, settings: Mapping[str, str] = SMALL) -> Iterator[str]:
    """Run the cluster as long as the ``with`` lasts; give the address of its master.

    Args:
        folder: for logs, what workers write, and the settings: ``conf`` is the SPARK_CONF_DIR.
        settings: of who asks the cluster.
    """
    conf = folder / "conf"
    conf.mkdir(parents=True)
    lines = [f"{name} {value}\n" for name, value in {**_LOOPBACK, **settings}.items()]
    (conf / "spark-defaults.conf").write_text("".join(lines))
    environment = {
        **os.environ, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_CONF_DIR": str(conf),
        "SPARK_DAEMON_MEMORY": "256m", "SPARK_WORKER_DIR": str(folder / "work"),
        "SPARK_LOCAL_DIRS": str(folder / "local"), "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip
    with ExitStack() as running:

        def start(name: str, what: str, *arguments: str) -> tuple[Path, subprocess.Popen[bytes]]:
            log = folder / f"{name}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    [str(_CLASS), f"{_DEPLOY}.{what}", *arguments],
                    stdout=out,
                    stderr=out,
                    env=environment,
                )
            running.callback(process.wait)
            running.callback(process.terminate)
            return log, process

        address = ["--host", "127.0.0.1", "--webui-port", "0"]
        log, process = start("master", "master.Master", *address, "--port", "0")
        master = _wait(log, r"spark://127\.0\.0\.1:\d+", process)
        for number in (1, 2):
            sizes = ["--cores", "1", "--memory", "2g"]
            log, process = start(f"worker{number}", "worker.Worker", *address, *sizes, master)
            _wait(log, "Successfully registered with master", process)
        yield master
