"""What runtimes call their containers, from files that anybody may have written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from droptape.recorder import careful
from droptape.recorder.container_names import ContainerNames

ID = "4f6c0b1b2d8a9e7f3c5d6e8f9a0b1c2d3e4f5a6b7c8d9e0f1a2b3c4d5e6f7a8b"
LIST = "home/{}/.local/share/containers/storage/overlay-containers/containers.json"
ROOTS = "var/lib/containers/storage/overlay-containers/containers.json"


def podman(root: Path, *, user: str = "alice", name: str = "web") -> Path:
    """Write a user's list with one container."""
    path = root / LIST.format(user)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"id": ID, "names": [name]}]))
    return path


def test_names_by_runtime(tmp_path: Path) -> None:
    files = {
        f"var/lib/docker/containers/{ID}/config.v2.json": {"Name": "/shop"},
        f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json": {
            "annotations": {"nerdctl/namespace": "default", "nerdctl/name": "cache"}
        },
    }
    for file, content in files.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(json.dumps(content))
    podman(tmp_path)
    names = ContainerNames(tmp_path)
    runtimes = "docker", "containerd", "podman", "crio", "lxc", None
    assert [names.name(ID, r) for r in runtimes] == [
        "shop", "default/cache", "web", None, ID, None,
    ]  # fmt: skip
    assert names.name("0" * 64, "podman") is None


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def a_linked_folder(path: Path) -> None:
    folder = path.parent.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def an_endless_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def too_much(path: Path) -> None:
    path.write_text(path.read_text() + " " * careful.MOST_BYTES)


def deep_nesting(path: Path) -> None:
    path.write_text("[" * 200_000)


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0")


def an_endless_name(path: Path) -> None:
    path.write_text(json.dumps([{"id": ID, "names": ["x" * 5000]}]))


def no_names(path: Path) -> None:
    path.write_text(json.dumps([{"id": ID, "names": [[]]}, {"id": [], "names": ["x"]}, 7]))


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "change",
    [a_link, a_linked_folder, a_pipe, an_endless_device, a_folder, too_much, deep_nesting, no_text,
     an_endless_name, no_names],
)  # fmt: skip
def test_a_users_file_that_is_not_a_list_names_nothing(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(podman(tmp_path))
    podman(tmp_path, user="bob").write_text(json.dumps([{"id": "b" * 64, "names": ["other"]}]))
    names = ContainerNames(tmp_path)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    assert names.name(ID, "podman") is None
    assert names.name("b" * 64, "podman") == "other"
    assert len(list(Path("/proc/self/fd").iterdir())) == opened


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_a_file_of_another_user_is_not_read(tmp_path: Path) -> None:
    path = podman(tmp_path)
    os.chown(tmp_path / "home/alice", 1234, 1234)
    assert ContainerNames(tmp_path).name(ID, "podman") == "web"  # root's
    os.chown(path, 1235, 1235)
    assert ContainerNames(tmp_path).name(ID, "podman") is None
    os.chown(path, 1234, 1234)
    assert ContainerNames(tmp_path).name(ID, "podman") == "web"


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_dockers_file_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / f"var/lib/docker/containers/{ID}"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "config.v2.json")
    assert ContainerNames(tmp_path).name(ID, "docker") is None


def test_half_a_surrogate_pair_becomes_text(tmp_path: Path) -> None:
    podman(tmp_path, name="a\ud800b")
    assert ContainerNames(tmp_path).name(ID, "podman") == "a\\ud800b"


def test_a_user_cannot_rename_what_others_have(tmp_path: Path) -> None:
    podman(tmp_path)
    podman(tmp_path, user="mallory", name="innocent")
    assert ContainerNames(tmp_path).name(ID, "podman") is None
    (tmp_path / ROOTS).parent.mkdir(parents=True)
    (tmp_path / ROOTS).write_text(json.dumps([{"id": ID, "names": ["mine"]}]))
    assert ContainerNames(tmp_path).name(ID, "podman") == "mine"
