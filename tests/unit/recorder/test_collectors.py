from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from droptape.bpf.kernel import cgroup2_mount as find_mount
from droptape.format.decode import rows_to_arrow
from droptape.format.tables import CGROUPS, NETNS_NAMES, PROCESSES, SYSCTLS
from droptape.recorder import process_groups
from droptape.recorder.cgroups import Cgroups, container_of
from droptape.recorder.host import SteadyOffset, check_clock, clock_pair, host
from droptape.recorder.kallsyms import Symbols, SymbolsError
from droptape.recorder.netns import NetnsNames, own_netns
from droptape.recorder.options import UsageError
from droptape.recorder.process_groups import ProcessGroups, has_version_1
from droptape.recorder.processes import process_row
from droptape.recorder.sysctls import read_sysctls

ID = "4f6c0b1b2d8a9e7f3c5d6e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b"
POD = "0dcb3a3e-5b1c-4c6e-8d5f-2f1e0a9b8c7d"
POD_UNIT = POD.replace("-", "_")
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_UNIT}.slice"

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000010 t do_one
ffffffff81000010 T do_one_alias
ffffffff81000040 D some_data
ffffffff81000080 W weak_one
ffffffffc0201000 t nf_hook\t[nf_tables]
ffffffffc0200000 t first_in_module\t[nf_tables]
"""


@pytest.fixture
def kallsyms(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS)
    return path


def test_functions_by_address(kallsyms: Path) -> None:
    symbols = Symbols.parse(kallsyms)
    assert symbols.lookup(0xFFFFFFFF81000000) == ("_stext", 0, "")
    assert symbols.lookup(0xFFFFFFFF8100000F) == ("_stext", 15, "")
    assert symbols.lookup(0xFFFFFFFF81000013) == ("do_one", 3, "")
    assert symbols.lookup(0xFFFFFFFF81000081) == ("weak_one", 1, "")
    assert symbols.lookup(0xFFFFFFFFC0201005) == ("nf_hook", 5, "nf_tables")
    assert symbols.lookup(0x10) is None
    assert symbols.text(0xFFFFFFFFC0201005) == "nf_hook+0x5 [nf_tables]"
    assert symbols.text(0x10) == "0x10"


def test_the_symbols_table(kallsyms: Path) -> None:
    table = Symbols.parse(kallsyms).table()
    table.validate(full=True)
    rows = table.to_pylist()
    assert [row["name"] for row in rows] == [
        "_stext", "do_one", "do_one_alias", "weak_one", "first_in_module", "nf_hook",
    ]  # fmt: skip
    assert [row["module"] for row in rows] == [None] * 4 + ["nf_tables"] * 2
    assert rows[0]["address"] == 0xFFFFFFFF81000000 - 2**64


def test_a_file_read_in_parts_loses_no_line(
    kallsyms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Symbols.parse(kallsyms).table()
    for size in (50, 97, 200):
        monkeypatch.setattr("droptape.recorder.kallsyms._CHUNK", size)
        assert Symbols.parse(kallsyms).table().equals(whole)


def test_hidden_and_missing_symbols_are_told(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T one\n0000000000000000 t two\n")
    with pytest.raises(SymbolsError, match="kptr_restrict"):
        Symbols.parse(path)
    symbols = Symbols.load(path)
    assert "kptr_restrict" in symbols.note
    assert (len(symbols), symbols.text(16), symbols.table().num_rows) == (0, "0x10", 0)
    path.write_text("")
    with pytest.raises(SymbolsError, match="CONFIG_KALLSYMS"):
        Symbols.parse(path)
    assert "No such file" in Symbols.load(tmp_path / "none").note


def test_the_symbols_of_this_kernel() -> None:
    symbols = Symbols.load()
    if symbols.note:
        pytest.skip(symbols.note)
    names = symbols.table()
    at = names["name"].index("tcp_v4_rcv").as_py()
    address = names["address"][at].as_py() % 2**64
    assert symbols.lookup(address + 4) == ("tcp_v4_rcv", 4, "")
    assert len(symbols) > 10_000


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/system.slice/docker-{ID}.scope", (ID[:12], "docker")),
        (f"/docker/{ID}", (ID[:12], "docker")),
        (f"/docker/{ID}/init.scope", (ID[:12], "docker")),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
         (ID[:12], "docker")),
        (f"{BURSTABLE}/cri-containerd-{ID}.scope", (ID[:12], "containerd")),
        (f"/kubepods.slice/kubepods-pod{POD_UNIT}.slice/crio-{ID}.scope", (ID[:12], "crio")),
        (f"/kubepods.slice/kubepods-pod{POD_UNIT}.slice/crio-{ID}.scope/container",
         (ID[:12], "crio")),
        (f"{BURSTABLE}/docker-{ID}.scope", (ID[:12], "docker")),
        (f"/kubepods/burstable/pod{POD}/{ID}", (ID[:12], "containerd")),
        (f"/system.slice/containerd.service/kubepods-pod{POD_UNIT}.slice:cri-containerd:{ID}",
         (ID[:12], "containerd")),
        (f"/kubepods.slice/kubepods-pod{POD_UNIT}.slice", ("pod" + POD, "kubernetes")),
        (f"/kubepods/besteffort/pod{POD}", ("pod" + POD, "kubernetes")),
        (f"/default/{ID}", (ID[:12], "containerd")),
        (f"/system.slice/nerdctl-{ID}.scope", (ID[:12], "containerd")),
        (f"/machine.slice/libpod-{ID}.scope", (ID[:12], "podman")),
        (f"/machine.slice/libpod-{ID}.scope/container", (ID[:12], "podman")),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
         (ID[:12], "podman")),
        (f"/machine.slice/libpod-conmon-{ID}.scope", (ID[:12], "podman")),
        (f"/libpod_parent/libpod-{ID}", (ID[:12], "podman")),
        ("/lxc.payload.web1", ("web1", "lxc")),
        ("/lxc.payload.web1/system.slice/nginx.service", ("web1", "lxc")),
        ("/lxc/web1", ("web1", "lxc")),
        ("/lxc/101/ns/system.slice/ssh.service", ("101", "lxc")),
        (r"/machine.slice/machine-debian\x2dtest.scope/payload", ("debian-test", "systemd-nspawn")),
        ("/machine.slice/systemd-nspawn@web.service/payload", ("web", "systemd-nspawn")),
        ("/system.slice/nginx.service", ("nginx.service", "systemd")),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service",
         ("postgresql@15-main.service", "systemd")),
        ("/user.slice/user-1000.slice/session-3.scope", ("session-3.scope", "systemd")),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-foo.service",
         ("app-foo.service", "systemd")),
        (r"/system.slice/my\x2dapp.service", ("my-app.service", "systemd")),
        (r"/system.slice/caf\xc3\xa9\xff.service", (r"café\xff.service", "systemd")),
        ("/init.scope", ("init.scope", "systemd")),
        ("/", (None, None)),
        ("/system.slice", (None, None)),
        ("/mygroup/inner", (None, None)),
    ],
)  # fmt: skip
def test_container_of(path: str, expected: tuple[str | None, str | None]) -> None:
    assert container_of(path) == expected


def test_the_cgroup2_mount_is_found(tmp_path: Path) -> None:
    mountinfo, place = tmp_path / "mountinfo", tmp_path / os.fsdecode(b"a b\xff")
    place.mkdir()
    device = place.stat().st_dev
    seen = f"{os.major(device)}:{os.minor(device)}"
    escaped = os.fsencode(place).replace(b" ", b"\\040")
    others = (
        b"31 23 0:28 / /tmp/caf\xe9\v\xe2\x80\xa8 rw,relatime - tmpfs tmpfs rw,mode=755\n"
        b"40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
        b"41 31 0:38 / /no/such/folder rw,relatime shared:4 - cgroup2 cgroup2 rw\n"
        b"42 31 9999:1 / %b rw,relatime shared:4 - cgroup2 cgroup2 rw\n" % escaped
    )
    line = b"43 31 %b / %b rw,relatime shared:4 - cgroup2 cgroup2 rw\n" % (seen.encode(), escaped)
    mountinfo.write_bytes(others + line)
    assert find_mount(mountinfo) == place
    assert has_version_1(mountinfo)
    mountinfo.write_bytes(others)
    assert find_mount(mountinfo) is None
    assert find_mount(tmp_path / "none") is None


def test_a_hidden_mount_of_control_groups_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_groups, "cgroup2_mount", lambda: tmp_path / "gone")
    assert ProcessGroups().rows([1]) == []


def test_groups_are_found_by_inode_also_new_ones(tmp_path: Path) -> None:
    (tmp_path / "system.slice/nginx.service").mkdir(parents=True)
    groups = Cgroups(tmp_path)
    inode = (tmp_path / "system.slice/nginx.service").stat().st_ino
    (row,) = groups.rows([inode, 1])
    assert (row["id"], row["path"]) == (inode, "/system.slice/nginx.service")
    assert (row["container"], row["runtime"]) == ("nginx.service", "systemd")
    (tmp_path / "late").mkdir()
    assert groups.path((tmp_path / "late").stat().st_ino) == "/late"
    assert groups.path(tmp_path.stat().st_ino) == "/"
    rows_to_arrow(CGROUPS, groups.rows([inode])).validate(full=True)
    (tmp_path / "late").rmdir()
    (tmp_path / "later").mkdir()
    groups.rows([1])
    assert set(groups._paths.values()) == {
        "/", "/system.slice", "/system.slice/nginx.service", "/later",
    }  # fmt: skip
    assert Cgroups(tmp_path / "none").rows([1]) == []


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    for folder in b"groups/caf\xe9/inner", b"netns":
        (tmp_path / os.fsdecode(folder)).mkdir(parents=True)
    inner = tmp_path / os.fsdecode(b"groups/caf\xe9/inner")
    rows = Cgroups(tmp_path / "groups").rows([inner.stat().st_ino])
    assert [row["path"] for row in rows] == [r"/caf\xe9/inner"]
    rows_to_arrow(CGROUPS, rows).validate(full=True)
    space = tmp_path / os.fsdecode(b"netns/ns\xff")
    space.touch()
    (row,) = NetnsNames(tmp_path, (tmp_path / "netns",)).rows([space.stat().st_ino])
    assert row["name"] == r"ns\xff"


def test_namespaces_have_names_and_processes(tmp_path: Path) -> None:
    proc, named = tmp_path / "proc", tmp_path / "netns"
    named.mkdir()
    for pid, name in (("1", "a"), ("7", "b"), ("8", "b")):
        (proc / pid / "ns").mkdir(parents=True)
        (tmp_path / name).touch()
        (proc / pid / "ns/net").hardlink_to(tmp_path / name)
    (named / "blue").hardlink_to(tmp_path / "b")
    a, b = (tmp_path / "a").stat().st_ino, (tmp_path / "b").stat().st_ino
    rows = {row["inum"]: row for row in NetnsNames(proc, (named, tmp_path / "no")).rows([a, b, 5])}
    assert rows[b] == {"inum": b, "name": "blue", "pid": 7, "since": None, "source": "ip"}
    # Process 1 is not in the initial pid namespace here: its network is not the host's.
    nothing = {"name": None, "since": None, "source": None}
    assert rows[a] == {"inum": a, "pid": 1, **nothing}
    assert rows[5] == {"inum": 5, "pid": None, **nothing}


@pytest.mark.parametrize(
    ("folder", "entry", "number"),
    [
        ("run", "blue", False),
        ("run", "cni-0f3b2a5c-8a1d-4c58-9a4e-0d6f7b1c2a3d", True),
        ("run", "netns-0f3b2a5c-8a1d-4c58-9a4e-0d6f7b1c2a3d", True),
        ("docker", "5b2a0c1d9e7f", True),
    ],
)
@pytest.mark.parametrize(
    ("group", "name"),
    [("docker-" + 64 * "a" + ".scope", 12 * "a"), ("docker.service", None), ("", None)],
)
def test_what_has_a_number_for_a_name_is_called_after_its_container(
    tmp_path: Path, folder: str, entry: str, number: bool, group: str, name: str | None
) -> None:
    proc = tmp_path / "proc"
    (proc / "7" / "ns").mkdir(parents=True)
    space = proc / "7" / "ns" / "net"
    space.touch()
    (proc / "7" / "cgroup").write_text(f"0::/system.slice/{group}\n")
    named = (tmp_path / "run", tmp_path / "docker")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / entry).hardlink_to(space)
    inum = space.stat().st_ino
    names = NetnsNames(proc, named)
    (row,) = names.rows([inum])
    called = name if number and name else entry
    source = "process" if called == name else {"run": "ip"}.get(folder, folder)
    assert (row["name"], row["source"], row["pid"]) == (called, source, 7)
    assert names.renamed({inum: row["name"]}) == set()
    # Another one gets its number.
    (tmp_path / folder / entry).rename(tmp_path / folder / "later")
    assert names.renamed({inum: row["name"]}) == {inum}


def test_a_name_that_came_later_says_since_when(tmp_path: Path) -> None:
    (tmp_path / "early").touch()
    time.sleep(0.02)  # more than the clock of files takes for a step
    names = NetnsNames(tmp_path / "proc", (tmp_path,))
    time.sleep(0.02)
    (tmp_path / "late").touch()
    early, late = (tmp_path / "early").stat(), (tmp_path / "late").stat()
    rows = {row["inum"]: row for row in names.rows([early.st_ino, late.st_ino])}
    assert rows[early.st_ino]["since"] is None
    assert rows[late.st_ino]["since"] == late.st_ctime_ns
    known: dict[int, object] = {early.st_ino: "early", late.st_ino: "another"}
    assert names.renamed(known) == {late.st_ino}
    assert names.renamed(known) == set()


def test_own_namespace_has_a_process() -> None:
    inum = own_netns()
    (row,) = NetnsNames().rows([inum])
    assert row["inum"] == inum
    assert isinstance(row["pid"], int)
    rows_to_arrow(NETNS_NAMES, [row]).validate(full=True)


def test_a_process_is_described_without_its_arguments() -> None:
    before = time.time_ns()
    with subprocess.Popen([sys.executable, "-c", "input()", "secret"], stdin=subprocess.PIPE) as p:
        row = process_row(p.pid)
        p.communicate(b"\n")
    assert row is not None
    assert (row["pid"], row["ppid"], row["uid"]) == (p.pid, os.getpid(), os.geteuid())
    assert row["exe"] == str(Path(sys.executable).resolve())
    assert abs(int(str(row["started"])) - before) < 2_000_000_000
    assert "secret" not in repr(row)
    assert process_row(p.pid) is None
    rows_to_arrow(PROCESSES, [row]).validate(full=True)


def test_a_process_cannot_call_itself_another_users(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    (folder / "stat").write_text("42 (x) S 7 " + "0 " * 17 + "100 " + "0 " * 30)
    (folder / "status").write_bytes(b"Name:\t\vUid: 0 0 0\nUid:\t7\t8\t9\t10\n")
    row = process_row(42, tmp_path)
    assert row is not None
    assert row["uid"] == 8


def test_a_name_with_brackets_and_what_cannot_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "42"
    folder.mkdir()
    (folder / "stat").write_text("42 (a) b (c) S 7 " + "0 " * 17 + "100 " + "0 " * 30)
    row = process_row(42, tmp_path)
    assert row is not None
    assert (row["comm"], row["ppid"]) == ("a) b (c", 7)
    assert (row["exe"], row["uid"], row["cgroup"]) == (None, None, None)
    (folder / "stat").write_text("")
    assert process_row(42, tmp_path) is None


def test_sysctls_of_this_namespace() -> None:
    rows = read_sysctls(own_netns())
    values = {row["name"]: row["value"] for row in rows}
    assert values["net.core.somaxconn"] == Path("/proc/sys/net/core/somaxconn").read_text().strip()
    assert values["net.ipv4.tcp_rmem"] == " ".join(
        Path("/proc/sys/net/ipv4/tcp_rmem").read_text().split()
    )
    assert {row["netns"] for row in rows} == {own_netns()}
    table = rows_to_arrow(SYSCTLS, rows)
    assert isinstance(table, pa.Table)
    table.validate(full=True)


def test_sysctls_that_a_kernel_lacks_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "net/core").mkdir(parents=True)
    (tmp_path / "net/core/somaxconn").write_text("77\n")
    rows = read_sysctls(7, sys=str(tmp_path))
    assert [(row["netns"], row["name"], row["value"]) for row in rows] == [
        (7, "net.core.somaxconn", "77")
    ]


def test_the_host_is_described_without_its_machine_id() -> None:
    found = host()
    assert found.kernel == os.uname().release
    assert found.cpus == os.cpu_count()
    assert len(found.boot_id) == 36
    machine_id = Path("/etc/machine-id")
    if machine_id.exists() and machine_id.read_text().strip():
        assert machine_id.read_text().strip() not in repr(found)
        assert len(found.machine_id) == 32


def test_the_clocks_are_read_together() -> None:
    pairs = [clock_pair() for _ in range(20)]
    offsets = [p.wall_ns - p.mono_ns for p in pairs]
    assert max(offsets) - min(offsets) < 1_000_000
    assert abs(pairs[0].wall_ns - time.time_ns()) < 1_000_000_000


def test_the_offset_stands_still_until_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = SteadyOffset()
    first = offset()
    assert {offset() for _ in range(200)} == {first}
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
    assert abs(offset() - first - 3_600_000_000_000) < 1_000_000


def test_a_time_namespace_is_refused(tmp_path: Path) -> None:
    offsets = tmp_path / "timens_offsets"
    check_clock(offsets)
    offsets.write_text("monotonic           0         0\nboottime            0         0\n")
    check_clock(offsets)
    offsets.write_text("monotonic       86400         0\nboottime            0         0\n")
    with pytest.raises(UsageError, match="time namespace"):
        check_clock(offsets)
