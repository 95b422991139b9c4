"""What the source of a model declares, read without running it: an import may load torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import EXTRA_OF, MissingFileError, naming_the_extra

_ROOTS: Final = ("/", "./", "../", "~/")
_FILES: Final = (".bin", ".pt", ".pth", ".safetensors")


def declared(module: str, attribute: str, subject: str) -> dict[str, bool]:
    """Return name -> whether it is required, of the parameters of a class or a `partial` of one.

    Raises:
        MissingPackageError: the module imports a package that is not installed.

    """
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    with naming_the_extra(subject):
        for package in _imports(tree):
            if package in EXTRA_OF and importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(package, name=package)
    return _parameters(tree, attribute)


def check_paths(options: Mapping[str, Any]) -> None:
    """Check that each option which can only be a path names a file or folder.

    Raises:
        MissingFileError: it does not exist.

    """
    for key, value in options.items():
        path = isinstance(value, str) and (value.startswith(_ROOTS) or value.endswith(_FILES))
        if path and not Path(value).expanduser().exists():
            raise MissingFileError(f"{key} = {value!r}", "it does not exist", "check the path")


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (top for name in names if (top := name.partition(".")[0]) != "abhinaya")


def _parameters(tree: ast.Module, name: str) -> dict[str, bool]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            made = (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
            return {k: v for f in made for k, v in _of(f.args).items() if k != "self"}
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Call)  # partial(Class, name=value, ...)
            given = {keyword.arg: False for keyword in node.value.keywords if keyword.arg}
            return _parameters(tree, ast.unparse(node.value.args[0])) | given
    raise LookupError(name)


def _of(arguments: ast.arguments) -> dict[str, bool]:
    plain = [a.arg for a in arguments.args]
    required = len(plain) - len(arguments.defaults)
    own = {name: number < required for number, name in enumerate(plain)}
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return own | {a.arg: default is None for a, default in named}
