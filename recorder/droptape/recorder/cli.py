"""The command line of `droptape-record`."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

from . import lean  # before NumPy and pyarrow

# isort: split
from droptape.bpf.client import Loader
from droptape.bpf.kinds import all_kinds
from droptape.bpf.process import LoaderProcess
from droptape.format.errors import DroptapeError

from .completion import SHELLS, script
from .config import with_config
from .options import (
    MAX_RATE,
    Options,
    UsageError,
    parse_btf,
    parse_budget,
    parse_descriptor,
    parse_duration,
    parse_events,
    parse_rate,
    parse_size,
)
from .ownership import parse_group
from .stopping import StoppedError
from .version import version

_EXAMPLES = """\
examples:
  droptape-record                                 until Ctrl-C
  droptape-record -o rec --duration 10m           for ten minutes, into rec
  droptape-record -o rec -- wrk -t2 http://web/   while a load test runs
  droptape-record --live --events drops,listen    and show events as they come
  droptape-record --mark "new config" rec         note it in a running recording
  droptape-record --check                         what works on this machine
"""


_NO_PROCESS = (
    "no process or thread can be started: raise the limit (ulimit -u, or pids.max of the cgroup)"
)


class _Parser(argparse.ArgumentParser):
    """Reports mistakes like all other errors: in one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see droptape-record --help)")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="droptape-record",
        description="Record packet drops, TCP retransmits, refused connections and resets.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    kinds = ",".join(name for name, kind in all_kinds().items() if kind.default)
    more = ",".join(name for name, kind in all_kinds().items() if not kind.default)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="folder to make (default: droptape-<host>-<UTC time> here)",
    )
    parser.add_argument(
        "--duration",
        type=parse_duration,
        metavar="TIME",
        help="stop after this time: 30s, 10m, 1h30m",
    )
    parser.add_argument(
        "--events",
        type=lambda text: parse_events(text, tuple(all_kinds())),
        metavar="KINDS",
        default=kinds,
        help=f"default: {kinds}; also: {more}",
    )
    parser.add_argument("--live", action="store_true", help="print one line per event")
    parser.add_argument(
        "--rotate-size",
        type=parse_size,
        metavar="SIZE",
        default="64MB",
        help="seal a segment when its journal has this size (default: 64MB)",
    )
    parser.add_argument(
        "--rotate-every",
        type=parse_duration,
        metavar="TIME",
        help="seal a segment at this age (default: 60s; 10m with --disk-budget, where small ones "
        "wait up to 36 times as long)",
    )
    parser.add_argument(
        "--disk-budget",
        type=parse_budget,
        metavar="SIZE",
        help="go on for ever in so much room: remove the oldest segments when it is used up",
    )
    parser.add_argument(
        "--keep-recordings",
        type=parse_size,
        metavar="SIZE",
        help="without -o: what finished recordings beside this one that were made with this option "
        "may take; remove the oldest at the start (default: leave all; needs --disk-budget)",
    )
    parser.add_argument(
        "--max-rate",
        type=parse_rate,
        metavar="N",
        default=str(MAX_RATE),
        help="rows per second, processor and key (cause, function, protocol, namespace) above "
        f"which rows are sampled and weighted; 0: never (default: {MAX_RATE})",
    )
    parser.add_argument(
        "--include-benign",
        action="store_true",
        help="also record rows for drops that are part of normal operation; they always count",
    )
    parser.add_argument(
        "--track-io",
        action="store_true",
        help="watch every message: right owners also of sockets that several processes use",
    )
    parser.add_argument(
        "--btf",
        type=parse_btf,
        metavar="FILE",
        help="BTF of exactly this kernel, where the kernel has none itself",
    )
    parser.add_argument(
        "--mark",
        nargs=2,
        metavar=("TEXT", "DIR"),
        help="write TEXT into the recording DIR, which another droptape-record is making",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="options from a file, one a line: name = value; those given here win",
    )
    parser.add_argument(
        "--group",
        type=parse_group,
        metavar="GROUP",
        help="let this group read the recording; under sudo it belongs to who called it",
    )
    parser.add_argument("--check", action="store_true", help="say what works here, and end")
    parser.add_argument(
        "--ready-fd",
        type=int,
        metavar="N",
        help="write 'ready' to this descriptor when the probes are live",
    )
    parser.add_argument(
        "--print-completion",
        metavar="SHELL",
        choices=SHELLS,
        help=f"print the completion for a shell ({', '.join(SHELLS)}), and end",
    )
    parser.add_argument("--version", action="version", version=f"droptape-record {version()}")
    parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND ...",
        help="record while this command runs, and exit with its code",
    )
    return parser


def _default_output() -> Path:
    host = platform.node().split(".")[0] or "host"
    return Path(f"droptape-{host}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}")


def _options(args: argparse.Namespace) -> Options:
    command = args.command
    if command and command[0] != "--":
        raise UsageError(f"unexpected {command[0]!r}: put -- before the command to run")
    if command == ["--"]:
        raise UsageError("no command after --")
    if args.keep_recordings is not None and args.disk_budget is None:
        raise UsageError("--keep-recordings is for recordings with --disk-budget: give that too")
    return Options(
        output=args.output or _default_output(),
        events=args.events,
        duration_s=args.duration,
        rotate_bytes=args.rotate_size,
        rotate_s=parse_duration("60s" if args.disk_budget is None else "10m")
        if args.rotate_every is None
        else args.rotate_every,
        disk_budget=args.disk_budget,
        # A name that the user chose is no name of the series.
        keep_recordings=args.keep_recordings if args.output is None else None,
        live=args.live,
        max_rate=args.max_rate,
        include_benign=args.include_benign,
        track_io=args.track_io,
        command=tuple(command[1:]),
        group=args.group,
        ready_fd=None if args.ready_fd is None else parse_descriptor(args.ready_fd),
        btf=args.btf,
    )


def _run(argv: Sequence[str] | None, process: LoaderProcess | None) -> int:
    called_ns = time.time_ns()
    given = sys.argv[1:] if argv is None else argv
    known = parser()
    args = known.parse_args(with_config(given, known))
    if args.print_completion:
        with _printing():
            print(script(args.print_completion, parser(), all_kinds()), end="")
        return 0
    if args.mark:
        from .marking import mark

        mark(Path(args.mark[1]), args.mark[0], called_ns)
        return 0
    if args.check:
        from .check import check

        with _printing():
            return 0 if check(sys.stdout, args.btf) else 1
    options = _options(args)
    from . import privilege

    privilege.require()
    if sys.stderr.isatty() and not options.live:
        _say(f"recording into {options.output}, Ctrl-C ends it")
    loader = Loader(
        options.events,
        record_benign=options.include_benign,
        track_io=options.track_io,
        max_rate=options.max_rate,
        btf=options.btf,
        process=process,
    )
    with closing(loader):
        lean.import_pyarrow()
        from .session import record

        ended = record(options, loader)
    if sys.stderr.isatty():
        rows = ", ".join(f"{count:,} {name}" for name, count in ended.rows.items())
        _say(
            f"{ended.folder}: {rows} in {ended.seconds:.1f} s, {ended.lost:,} lost\n"
            f"now: droptape summary {ended.folder}"
        )
    if ended.trouble:
        _say(f"droptape-record: {ended.trouble}")
        return ended.code or 2
    return ended.code


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone, and the log's disk be full
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _printing() -> Iterator[None]:
    """Raise UsageError when what is printed in this block cannot be written."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # What is left would be tried once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise UsageError(f"standard output cannot be written: {exc.strerror}") from exc


def _advice(exc: OSError) -> str:
    """Say in a line what the system refused, and what to do where that is known."""
    if exc.errno == errno.EAGAIN:
        return _NO_PROCESS
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files: raise the limit (ulimit -n)"
    where = f"{exc.filename}: " if exc.filename else ""
    return f"{where}{exc.strerror or exc}"


def main(argv: Sequence[str] | None = None, process: LoaderProcess | None = None) -> NoReturn:
    """Run the recorder and exit.

    Args:
        argv: the command line without the program's name; `sys.argv`'s by default.
        process: the loader's, if it was started already.

    0 or the command's code; 2 for an error the user can act on, also when the recording is not all
    on disk.
    """
    try:
        code = _run(argv, process)
    except DroptapeError as exc:
        _say(f"droptape-record: {exc}")
        code = 2
    except RuntimeError as exc:
        if "new thread" not in str(exc):
            raise
        _say(f"droptape-record: {_NO_PROCESS}")
        code = 2
    except StoppedError as exc:
        code = exc.code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Nobody reads any more what --check prints; Python would complain once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    except OSError as exc:
        _say(f"droptape-record: {_advice(exc)}")
        code = 2
    sys.exit(code)
