from __future__ import annotations

import graphlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unit.sources import PACKAGES, PORTIONS, ROOT, imports, modules, package_of

# Which other packages of droptape each may import.
MAY_IMPORT = {
    "droptape.format": set[str](),
    "droptape.bpf": {"droptape.format"},
    "droptape.recorder": {"droptape.format", "droptape.bpf"},
    "droptape.analyze": {"droptape.format"},
}
# Which foreign packages each must do without.
MUST_NOT_IMPORT = {
    "droptape.format": {"bcc", "duckdb", "rich", "typer"},
    "droptape.bpf": {"duckdb", "rich", "typer"},
    "droptape.recorder": {"bcc", "duckdb", "rich", "typer"},
    "droptape.analyze": {"bcc"},
}


def test_no_portion_has_an_init_file_of_its_own() -> None:
    stray = [f for p in PORTIONS if (f := ROOT / p / "droptape" / "__init__.py").exists()]
    assert not stray


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_regular_and_typed(package: str) -> None:
    assert (PACKAGES[package] / "__init__.py").is_file()
    assert (PACKAGES[package] / "py.typed").is_file()


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in modules().values()}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


def test_wheel_holds_the_tree(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = {
        str(path.relative_to(ROOT / portion))
        for portion in PORTIONS
        for path in (ROOT / portion / "droptape").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == tree
    for suffix in (".c", ".h", ".sql", ".typed"):
        assert any(name.endswith(suffix) for name in packed), f"no {suffix} file in the wheel"


@pytest.mark.parametrize("module", modules())
def test_module_imports_only_what_it_may(module: str) -> None:
    package = package_of(module)
    wanted = imports(module, modules()[module])
    ours = {package_of(name) for name in wanted if name.startswith("droptape.")}
    assert ours - {package} <= MAY_IMPORT[package]
    assert not {name.split(".")[0] for name in wanted} & MUST_NOT_IMPORT[package]


def test_modules_import_each_other_without_cycles() -> None:
    known = modules()
    graph = {}
    for module, path in known.items():
        names = imports(module, path)
        # `from a import b`: b is a module, or a name in module a.
        edges = {n if n in known else n.rpartition(".")[0] for n in names}
        graph[module] = edges & known.keys() - {module}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def loaded_by(module: str) -> set[str]:
    """Return the names in sys.modules of a fresh interpreter that imported `module`."""
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(str(ROOT / portion) for portion in PORTIONS)},
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_recorder_loads_neither_analysis_nor_bcc() -> None:
    assert not loaded_by("droptape.recorder.cli") & {
        "bcc",
        "droptape.analyze",
        "duckdb",
        "rich",
        "typer",
    }


def test_analysis_loads_neither_recorder_nor_bcc() -> None:
    loaded = loaded_by("droptape.analyze.cli") | loaded_by("droptape.analyze")
    assert not loaded & {"bcc", "droptape.bpf", "droptape.recorder"}


def test_the_command_without_its_extra_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules.update(duckdb=None, rich=None)\n"
        "from droptape.analyze.cli import main\n"
        "main()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr == "droptape: duckdb, rich not installed: pip install 'droptape[analyze]'\n"


def test_the_command_does_without_pandas() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--version']\n"
        "from droptape.analyze.cli import main\n"
        "try: main()\n"
        "finally: print('pandas' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split()[-1] == "False"
