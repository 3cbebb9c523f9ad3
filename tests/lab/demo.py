"""`make demo`: make real trouble, record it, explain it.

Two hosts made of network namespaces, four kinds of trouble between them, one
recorder watching the whole machine. At the end the recording is asked what
happened, and its numbers are put beside the kernel's own counters.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab import Host, Lab, LabError, trouble
from lab.recorder import PROGRAMS, Recorder

QUERY = """\
SELECT owner_comm AS owner, reason, function, dport, sum(weight) AS drops
FROM drops
WHERE NOT benign
GROUP BY ALL
ORDER BY drops DESC
LIMIT 8"""

# One number per trouble, from the recording. {server} is the namespace's inode number. Before 5.17
# the kernel gives no reasons, and the function tells.
RECORDED = """\
SELECT
  (SELECT sum(weight) FROM listen WHERE netns = {server}
     AND event IN
     ('syn_dropped', 'accept_queue_full', 'syn_queue_full', 'ack_dropped')) AS refused,
  (SELECT sum(weight) FROM drops WHERE netns = {server}
     AND protocol = 'TCP' AND coalesce(reason, 'NO_SOCKET') = 'NO_SOCKET'
     AND dport = {closed_port}) AS closed,
  (SELECT sum(weight) FROM drops WHERE netns = {server}
     AND coalesce(reason = 'SOCKET_RCVBUFF', function LIKE 'udp%_queue_rcv_%')) AS overflowed,
  (SELECT sum(weight) FROM drops WHERE netns = {server}
     AND coalesce(reason = 'NETFILTER_DROP', function = 'nf_hook_slow')) AS filtered,
  (SELECT sum(segments * weight) FROM retransmits WHERE netns = {client}) AS resent"""


@dataclass(frozen=True)
class Check:
    """One number as the kernel or the programs know it, to compare with the recording."""

    what: str
    source: str
    expected: int
    column: str


class Demo:
    """The demonstration's stage: where it prints and where it records."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console = console
        self.folder = folder
        self.checks: list[Check] = []

    def say(self, text: str) -> None:
        """Print a line of the story; rich markup allowed."""
        self.console.print(text, highlight=False)

    @contextmanager
    def trouble(
        self, title: str, story: str, host: Host, counter: str, noun: str
    ) -> Iterator[None]:
        """Announce a trouble, then show a kernel counter of `host` climbing while it lasts."""
        self.say(f"\n[bold yellow]{title}[/]\n  {story}")
        start = host.counters().get(counter, 0)
        done = threading.Event()

        def seen() -> str:
            return f"{host.counters().get(counter, 0) - start} {noun}"

        with self.console.status("  …") as status:

            def follow() -> None:
                while not done.wait(0.1):
                    status.update(f"  {seen()} so far")

            watcher = threading.Thread(target=follow)
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join()
        self.say(f"  [green]done:[/] the kernel counted {seen()} [dim]({counter})[/]")

    def expect(self, what: str, source: str, expected: int, column: str) -> None:
        """Note a number that the recording must know too."""
        self.checks.append(Check(what, source, expected, column))

    def droptape(self, *arguments: str) -> None:
        """Show a droptape command line and run it."""
        shown = shlex.join(["droptape", *arguments])
        self.console.print(f"\n[bold cyan]$ {escape(shown)}[/]", highlight=False, soft_wrap=True)
        subprocess.run([PROGRAMS / "droptape", *arguments], check=True)

    def ask(self, sql: str) -> dict[str, int | None]:
        """Return the one row that a query of the recording gives."""
        run = subprocess.run(
            [PROGRAMS / "droptape", "query", self.folder, sql, "--format", "json"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        row: dict[str, int | None] = json.loads(run.stdout)[0]
        return row


def slow_server(demo: Demo, server: Host, client: Host, address: str) -> None:
    """Many clients, a short queue, a server that is busy elsewhere."""
    before = server.counters().get("TcpExt.ListenDrops", 0)
    with demo.trouble(
        "1. A server that accepts too slowly",
        "auction-server has room for 4 waiting connections and takes one every 0.2 s;"
        " 60 clients come at once.",
        server,
        "TcpExt.ListenDrops",
        "connection attempts refused",
    ):
        crowd = trouble.slow_server(server, client, address, seconds=4, comm="auction-server")
    demo.say(f"  auction-server took {crowd.accepted} of {crowd.clients} clients")
    drops = server.counters().get("TcpExt.ListenDrops", 0) - before
    demo.expect("refused connections", "TcpExt.ListenDrops", drops, "refused")


def closed_port(demo: Demo, server: Host, client: Host, address: str) -> int:
    """A port where nobody listens. Returns the port."""
    with demo.trouble(
        "2. A closed port",
        "25 connects to a TCP port where nobody listens.",
        client,
        "Tcp.AttemptFails",
        "connects failed",
    ):
        closed = trouble.closed_tcp_port(server, client, address, count=25)
        time.sleep(0.5)
    demo.expect("closed-port connects", "the client", closed.attempts, "closed")
    return closed.target.port


def slow_reader(demo: Demo, server: Host, client: Host, address: str) -> None:
    """Datagrams that come faster than they are read, over IPv6."""
    with demo.trouble(
        "3. A UDP reader that is too slow",
        "telemetry sleeps while 1,500 datagrams come in over IPv6; its buffer holds a few.",
        server,
        "Udp6.RcvbufErrors",
        "datagrams dropped",
    ):
        reader = trouble.slow_udp_reader(
            server, client, address, count=1500, pause=0.001, comm="telemetry"
        )
    demo.expect("datagrams lost", "sent - received", reader.dropped, "overflowed")


def firewall(demo: Demo, server: Host, client: Host, address: str) -> None:
    """A rule that drops a few percent of a transfer, which TCP repairs."""
    with demo.trouble(
        "4. A firewall rule that drops 3 percent of a transfer",
        "backup sends 8 MB through an nftables rule that drops 3 of 100 packets.",
        client,
        "Tcp.RetransSegs",
        "segments sent again",
    ):
        loss = trouble.lossy_transfer(server, client, address, size=8_000_000, comm="backup")
    demo.expect("firewalled packets", "nft counter", loss.dropped, "filtered")
    # All of the client's, those SYNs too that the full server made it send again.
    resent = client.counters()["Tcp.RetransSegs"]
    demo.expect("resent segments", "Tcp.RetransSegs", resent, "resent")


def compare(demo: Demo, server: Host, client: Host, port: int) -> bool:
    """Put the recording's numbers beside what the kernel and the programs counted.

    Returns whether all of them are equal.
    """
    sql = RECORDED.format(server=server.inum, client=client.inum, closed_port=port)
    recorded = demo.ask(sql)
    table = Table(title="\nIs it right?", title_justify="left", title_style="bold")
    table.add_column("what happened")
    table.add_column("counted", justify="right")
    table.add_column("by", style="dim")
    table.add_column("recorded", justify="right")
    table.add_column("")
    right = True
    for check in demo.checks:
        found = recorded[check.column] or 0
        right = right and found == check.expected
        verdict = "[green]equal[/]" if found == check.expected else "[red]differs[/]"
        table.add_row(check.what, str(check.expected), check.source, str(found), verdict)
    demo.console.print(table)
    return right


def give_to_caller(folder: Path) -> None:
    """Under sudo, let the recording belong to who called it, for reading without root."""
    if "SUDO_UID" not in os.environ:
        return
    uid, gid = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)


def perform(demo: Demo) -> bool:
    """Run the whole demonstration; return whether the recording was right."""
    demo.say("[bold]droptape[/] records why the kernel drops, resends and refuses packets.")
    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        link = lab.link(client, server, offload=False)
        v4, v6 = (link.address(server, version) for version in (4, 6))
        demo.say(
            "\nTwo hosts in network namespaces of their own: "
            f"client {link.address(client)}, server {v4} and {v6}"
        )
        with demo.console.status("starting droptape-record"):
            recorder = Recorder(demo.folder)
        with recorder:
            demo.say(f"[green]Recording[/] since {recorder.seconds_to_ready:.1f} s after the start")
            slow_server(demo, server, client, v4)
            port = closed_port(demo, server, client, v4)
            slow_reader(demo, server, client, v6)
            firewall(demo, server, client, v4)
            time.sleep(0.5)
            code = recorder.stop()
        if code != 0:
            raise LabError(f"droptape-record ended with code {code}: {recorder.output.strip()}")
        demo.say("\nStopped the recorder. Now to ask the recording what happened.")
        give_to_caller(demo.folder)
        folder = str(demo.folder)
        demo.droptape("summary", folder)
        demo.droptape("query", folder, QUERY)
        right = compare(demo, server, client, port)
    demo.say(
        f"\nThe recording is in [bold]{escape(folder)}[/]: plain Parquet, and an answer to more:\n"
        f"  .venv/bin/droptape timeline {folder}\n"
        f"  .venv/bin/droptape top {folder} --by owner,reason,function\n"
        f"  .venv/bin/droptape shell {folder}"
    )
    return right


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    default = Path(f"droptape-demo-{time.strftime('%Y%m%d-%H%M%S')}")
    parser.add_argument("-o", "--output", type=Path, default=default, help="the recording's folder")
    return parser.parse_args()


def main() -> int:
    """Run the demonstration; 0 when it went to its end and the recording was right."""
    console = Console()
    folder = arguments().output
    if os.geteuid() != 0:
        console.print("demo: probes and namespaces need root: run it by sudo", style="red")
        return 2
    try:
        return 0 if perform(Demo(console, folder)) else 1
    except LabError as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except subprocess.CalledProcessError as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. What was recorded is in {folder}.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
