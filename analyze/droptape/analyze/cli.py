"""The command `droptape`."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from . import interrupt

_EXTRA = ("duckdb", "rich", "typer")


def main() -> None:
    """Run the command line, which needs the extra `analyze`."""
    interrupt.watch()
    try:
        code = _run()
    except BaseException:
        if not interrupt.came():
            raise
        code = interrupt.code()
    interrupt.end()
    sys.exit(code)


def _run() -> int:
    missing = [module for module in _EXTRA if importlib.util.find_spec(module) is None]
    if missing:
        print(
            f"droptape: {', '.join(missing)} not installed: pip install 'droptape[analyze]'",
            file=sys.stderr,
        )
        return 2
    if not any("spark" in argument for argument in sys.argv):  # that asks pandas
        from droptape.format.hidden import import_pyarrow

        import_pyarrow()
    with interrupt.later():  # nanobind ends the process when it comes while its types are made
        importlib.import_module("duckdb")
    from .running import run

    return run()


if __name__ == "__main__":
    main()
