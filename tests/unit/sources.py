"""What the packaging tests know of the source tree: modules and what they import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PORTIONS = ("bpf", "recorder", "analyze")
PACKAGES = {
    "droptape.format": ROOT / "bpf/droptape/format",
    "droptape.bpf": ROOT / "bpf/droptape/bpf",
    "droptape.recorder": ROOT / "recorder/droptape/recorder",
    "droptape.analyze": ROOT / "analyze/droptape/analyze",
}


def modules() -> dict[str, Path]:
    """Return every module of droptape by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
            found[".".join((package, *parts))] = path
    return found


def package_of(module: str) -> str:
    """Return the package that a module belongs to, as droptape.format."""
    return ".".join(module.split(".")[:2])


def _is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_type_checking(node):
            continue
        yield node
        yield from _nodes(node)


def _absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")
    drop = node.level - 1 if path.name == "__init__.py" else node.level
    base = parents[: len(parents) - drop]
    return ".".join([*base, node.module] if node.module else base)


def imports(module: str, path: Path) -> set[str]:
    """Return the dotted names a module imports anywhere, in functions too.

    `from a import b` gives `a.b`, which may be a module or a name in `a`. What is
    imported for type checking only does not count.
    """
    names: set[str] = set()
    for node in _nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, path)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names
