"""The notebooks run from start to end and show what they promise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
PLOTS = {"tour": 5, "load-test-comparison": 2, "write-your-own-finding": 1}

# What Jupyter's own libraries warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("default")


def read(name: str) -> Any:
    reader: Any = nbformat.read
    return reader(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def outputs(cells: list[Any]) -> Iterator[Any]:
    for cell in cells:
        yield from cell.get("outputs", ())


@pytest.fixture(scope="module", params=sorted(PLOTS))
def executed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any]:
    name = str(request.param)
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
        notebook = read(name)
        client = NotebookClient(
            notebook, timeout=60, resources={"metadata": {"path": str(NOTEBOOKS)}}
        )
        client.execute()  # raises when a cell does
    return name, notebook


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == PLOTS.keys()


def test_plots_appear(executed: tuple[str, Any]) -> None:
    name, notebook = executed
    plots = [
        output["data"]["image/svg+xml"]
        for output in outputs(notebook.cells)
        if "image/svg+xml" in output.get("data", {})
    ]
    assert len(plots) == PLOTS[name]
    for plot in plots:
        assert 'role="graphics-symbol"' in plot, "a plot without marks"


def test_nothing_is_complained_of(executed: tuple[str, Any]) -> None:
    _, notebook = executed
    errors = [o for o in outputs(notebook.cells) if o.get("name") == "stderr"]
    assert not errors
    assert not [o for o in outputs(notebook.cells) if o["output_type"] == "error"]


def shown(notebook: Any, source: str) -> str:
    """Return the text that the cell with `source` in it shows."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and source in c.source]
    return "\n".join(str(o.get("data", {}).get("text/plain", o.get("text", "")))
                     for o in cell.outputs)  # fmt: skip


def test_what_they_find(executed: tuple[str, Any]) -> None:
    name, notebook = executed
    if name == "tour":
        assert "auction-server" in shown(notebook, "%%sql")
        assert "backup" in shown(notebook, "= %sql")
        kinds = shown(notebook, "polars_frame = ")
        assert all(kind in kinds for kind in ("pandas", "polars", "pyarrow"))
        assert "critical" in shown(notebook, "rec.diagnose()")
    elif name == "load-test-comparison":
        assert "backlog of 0.0.0.0:8080" in shown(notebook, "found.settings")
        assert re.search(r"gone\s+listen", shown(notebook, "found = diff("))
    else:
        assert "waited more than a second" in shown(notebook, "rec.diagnose([folder])")
        assert "'healthy'" in shown(notebook, "healthy.diagnose")


@pytest.mark.parametrize("name", sorted(PLOTS))
def test_they_are_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert not list(outputs(notebook.cells))
    assert all(c.get("execution_count") is None for c in notebook.cells)


def test_the_readme_names_them_all() -> None:
    readme = (NOTEBOOKS / "README.md").read_text()
    assert all(f"]({name}.ipynb)" in readme for name in PLOTS)
