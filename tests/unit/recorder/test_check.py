"""What `--check` and the start say where something is not as usual."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from droptape.recorder import check, privilege
from droptape.recorder.options import UsageError


@pytest.mark.parametrize("text", [b"", b"\n", b"nonsense\n", b"0000000000000000 T _text\n"])
def test_no_symbols_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "kallsyms").write_bytes(text)
    monkeypatch.setattr(check, "_KALLSYMS", tmp_path / "kallsyms")
    monkeypatch.setattr(privilege, "missing", lambda: ["CAP_BPF"])
    out = io.StringIO()
    assert not check.check(out)
    assert "NO   kernel symbols" in out.getvalue()


def test_without_proc_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(privilege, "_STATUS", tmp_path / "status")
    with pytest.raises(UsageError, match="needs the host's /proc"):
        privilege.require()
    with pytest.raises(UsageError, match="needs the host's /proc"):
        check.check(io.StringIO())


def test_the_capabilities_of_a_user_namespace_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "status").write_text("CapEff:\t000001ffffffffff\n")
    monkeypatch.setattr(privilege, "_STATUS", tmp_path / "status")
    monkeypatch.setattr(privilege, "_FIRST_USER_SPACE", 1)
    with pytest.raises(UsageError, match="outside this user namespace"):
        privilege.require()
    monkeypatch.setattr(privilege, "_USER_SPACE", tmp_path / "none")
    privilege.require()


def _with_only(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str
) -> tuple[list[str], list[str]]:
    """Return the lines of --check about capabilities, and the notes, of a process with `names`."""
    bits = sum(1 << privilege.NUMBERS[name] for name in names)
    (folder / "status").write_text(f"CapEff:\t{bits:016x}\n")
    monkeypatch.setattr(privilege, "_STATUS", folder / "status")
    monkeypatch.setattr(privilege, "missing", lambda: ["the probes are not to be tried"])
    out = io.StringIO()
    check.check(out)
    return [line for line in out.getvalue().split("\n") if "CAP_" in line], privilege.notes()


def test_sys_admin_serves_in_place_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines, notes = _with_only(monkeypatch, tmp_path, "CAP_SYS_ADMIN")
    assert [" ".join(line.split()) for line in lines if line.startswith("yes")] == [
        "yes CAP_SYS_ADMIN to load and attach the programs, in place of CAP_BPF and CAP_PERFMON",
        "yes CAP_SYS_ADMIN to see who makes UDP sockets, in place of CAP_NET_ADMIN",
        "yes CAP_SYS_ADMIN to enter network namespaces and read their counters",
    ]
    lacking = ("CAP_SYSLOG", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
    assert [line.split()[1] for line in lines if line.startswith("NO")] == list(lacking)
    assert [note.split(",")[0] for note in notes] == [f"recorded without {n}" for n in lacking]


def test_what_serves_is_named_and_what_lacks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines, _ = _with_only(monkeypatch, tmp_path, *privilege.NUMBERS)
    assert {line[:3] for line in lines} == {"yes"}
    assert lines[0].split()[1:4] == ["CAP_BPF", "and", "CAP_PERFMON"]
    assert not [line for line in lines if "in place of" in line]
    lines, notes = _with_only(monkeypatch, tmp_path, "CAP_BPF")
    assert {line[:3] for line in lines} == {"NO "}
    assert ": lacks CAP_PERFMON, " in lines[0]
    assert notes[0].startswith("recorded without CAP_PERFMON, which")
