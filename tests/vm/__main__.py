"""The command line: see the package."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path

from vm import boot, matrix
from vm.fetch import FetchError, fetch

DEFAULT = ("5.10", "6.1", "6.12", "newest")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vm", description="Run things on other kernels."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fetch", help="unpack kernels")
    one.add_argument("kernels", nargs="*", default=DEFAULT)
    one.add_argument("--machine", default=platform.machine())
    one = commands.add_parser("run", help="run a command as root under a kernel")
    one.add_argument("--machine", default=platform.machine())
    one.add_argument("--tree", type=Path, default=Path("/"), help="the files to run on")
    one.add_argument("--memory", type=int, default=2048, help="MiB")
    one.add_argument("--timeout", type=float, default=600, help="seconds")
    one.add_argument("--exchange", type=Path, help=f"an empty folder, seen as {boot.EXCHANGE}")
    one.add_argument("kernel")
    one.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    one = commands.add_parser("test", help="run the kernel tests and print the support table")
    one.add_argument("--timeout", type=float, default=14_400, help="seconds for each kernel")
    one.add_argument("--all", action="store_true", help="every test, not one of each mechanism")
    one.add_argument("--pytest", metavar="ARGUMENTS", help="tests and options for pytest")
    one.add_argument("kernels", nargs="*", default=DEFAULT)
    return parser


def _run(args: argparse.Namespace) -> int:
    ((_, kernel),) = fetch([args.kernel], args.machine)
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        return boot.run(
            kernel, args.words, args.exchange or Path(folder), machine=args.machine,
            tree=args.tree, memory=args.memory, timeout=args.timeout, output=boot.to_stdout,
        )  # fmt: skip


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Do what the arguments say; return the exit code."""
    args = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the machine must not go on alone
        signal.signal(number, _end)
    try:
        if args.command == "fetch":
            for name, kernel in fetch(list(args.kernels), args.machine):
                print(f"{name}  {kernel.release}")
            return 0
        machine = getattr(args, "machine", platform.machine())
        if os.geteuid() != 0:
            raise boot.BootError("sharing this machine's files needs root: run it with sudo")
        if missing := boot.missing_programs(machine):
            raise boot.BootError(f"not installed: {', '.join(missing)} (.ci/setup kernels)")
        if args.command == "run":
            return _run(args)
        tests = matrix.ALL if args.all else matrix.EACH
        arguments = args.pytest.split() if args.pytest else [*tests, "-q"]
        return matrix.test(list(args.kernels), arguments, args.timeout)
    except (FetchError, boot.BootError) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 125


if __name__ == "__main__":
    sys.exit(main())
