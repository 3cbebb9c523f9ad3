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
