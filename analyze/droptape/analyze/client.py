"""Running SQL of a user in a worker process, and stopping it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import pyarrow as pa

from .errors import QueryError, QueryTimeoutError, RecordingError
from .temporary import TemporaryFolder

_FILE_LIMIT = 64 << 30
_START = (
    "import sys; sys.path[:] = {path!r}; from droptape.analyze.worker import main; sys.exit(main())"
)


class Client:
    """A worker process for `paths`.

    Attributes:
        problems: files that could not be read.
        tables: for each table its doc and columns (name, type, doc).
        confined: whether the kernel keeps the worker from writing.
    """

    def __init__(
        self,
        paths: Iterable[str],
        *,
        memory_limit: str | None = None,
        start: str | None = None,
        end: str | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        """Start it; RecordingError when nothing can be opened, or a time is none.

        Args:
            paths: folders of recordings, or globs; or a dataset.
            memory_limit: before spilling to disk, such as ``2GB``.
            start: only from this time on, as in `Recording.between`.
            end: only before this time.
            hosts: of a dataset, only these.
        """
        self._timed_out = False
        self._temp = TemporaryFolder("droptape-query-")
        # The worker imports from where this process does, also when droptape is not installed.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process to answer
        )
        setup = {
            "paths": list(paths),
            "temp": self._temp.name,
            "memory_limit": memory_limit,
            "file_limit": _FILE_LIMIT,
            "start": start,
            "end": end,
            "hosts": list(hosts),
        }
        try:
            self._send(setup)
            hello = self._receive()
        except BaseException:
            self.close()
            raise
        if "error" in hello:
            self.close()
            raise RecordingError(hello["error"])
        self.problems: list[str] = hello["problems"]
        self.tables: dict[str, dict[str, Any]] = hello["tables"]
        self.confined: bool = hello["confined"]

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer says why
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> QueryError:
        code = self._process.wait()
        if self._timed_out:
            return QueryTimeoutError("the query took longer than --timeout allows and was stopped")
        cause = f"signal {-code}, often for lack of memory" if code < 0 else f"exit code {code}"
        return QueryError(f"the query process ended unexpectedly ({cause})")

    @contextmanager
    def ask(self, query: str, timeout: float | None = None) -> Iterator[pa.RecordBatchReader]:
        """Run `query`; the reader is valid inside the `with`.

        Args:
            query: one SELECT.
            timeout: seconds after which it is stopped, with all of the worker.

        Raises:
            QueryError: it is wrong or failed; also on leaving the `with`.
        """
        assert self._process.stdout is not None
        if timeout is not None and not 0 < timeout <= threading.TIMEOUT_MAX:
            raise QueryError(
                f"a timeout of {timeout} s cannot be kept: more than 0, "
                f"at most {threading.TIMEOUT_MAX:.0f}, or none at all"
            )
        timer = threading.Timer(timeout, self._stop) if timeout else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            self._send({"query": query})
            head = self._receive()
            if not head.get("stream"):
                raise QueryError(head["error"])
            try:
                reader = pa.ipc.open_stream(self._process.stdout)
                yield reader
                for _ in reader:  # what was not asked for stands between us and the last line
                    pass
            except (pa.ArrowInvalid, OSError) as exc:
                if isinstance(exc, BrokenPipeError):
                    raise
                raise self._died() from exc
            if error := self._receive()["error"]:
                raise QueryError(error)
        finally:
            if timer is not None:
                timer.cancel()

    def _stop(self) -> None:
        self._timed_out = True
        self._process.kill()

    def close(self) -> None:
        """End the worker, at once, and remove its temporary files."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()
        self._temp.cleanup()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
