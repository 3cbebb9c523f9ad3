"""droptape shell."""

from __future__ import annotations

from droptape.analyze.prompt import Prompt

from ._listing import Hosts, Recordings, names


def shell(recordings: Recordings, hosts: Hosts = None) -> None:
    r"""Ask in SQL at a prompt, with history and completion.

    A query ends with ; or an empty line. \tables, \d TABLE, \q; Ctrl-C stops a query.

    Example: [bold]droptape shell droptape-web1-20261121T075348Z[/bold]
    """
    with Prompt(recordings, names(hosts)) as prompt:
        prompt.run()
