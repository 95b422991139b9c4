"""What the source of a model declares, read without running it: an import may load torch."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from abhinaya.models.errors import EXTRA_OF, MissingFileError, OptionsError, naming_the_extra

_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    "bool": (bool,), "float": (float, int), "int": (int,), "str": (str,),
}  # fmt: skip
_ROOTS: Final = ("/", "./", "../", "~/")
_FILES: Final = (".bin", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, which is an option in a profile."""

    required: bool
    annotation: ast.expr | None = None

    def fault(self, value: object) -> str:
        """Return what is wrong with a value; empty if it fits, or if only the model can tell."""
        if self.annotation is None or _fits(self.annotation, value):
            return ""
        return f"is not of the type {ast.unparse(self.annotation)}"


def declared(module: str, attribute: str, subject: str) -> dict[str, Parameter]:
    """Return the parameters of a class, or of a `partial` of one.

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


def check_values(options: Mapping[str, Any], known: Mapping[str, Parameter]) -> None:
    """Check the types of options, and that what can only be a path exists.

    Raises:
        OptionsError: a value is of another type.
        MissingFileError: a path does not exist.

    """
    absent = {}
    for key, value in options.items():
        if fault := known[key].fault(value):
            raise OptionsError(f"{key} = {value!r}", fault, "change it in the profile")
        path = isinstance(value, str) and (value.startswith(_ROOTS) or value.endswith(_FILES))
        if path and not Path(value).expanduser().exists():
            absent[key] = value
    if absent:
        named = ", ".join(f"{key} = {value!r}" for key, value in absent.items())
        raise MissingFileError(named, "it does not exist", "check the path")


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (top for name in names if (top := name.partition(".")[0]) != "abhinaya")


def _fits(annotation: ast.expr, value: object) -> bool:
    """Return whether a value has a type; True for types that are not plain."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(left, value) or _fits(right, value)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return value in ast.literal_eval(ast.Tuple([choices], ast.Load()))[0]
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id=name) if name in _PLAIN:
            # to Python, True is a number
            return isinstance(value, _PLAIN[name]) and (name == "bool") == isinstance(value, bool)
    return True


def _parameters(tree: ast.Module, name: str) -> dict[str, Parameter]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            made = (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
            return {k: v for f in made for k, v in _of(f.args).items() if k != "self"}
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name:
            assert isinstance(node.value, ast.Call)  # partial(Class, name=value, ...)
            given = [keyword.arg for keyword in node.value.keywords if keyword.arg]
            found = _parameters(tree, ast.unparse(node.value.args[0]))
            return found | {key: replace(found[key], required=False) for key in given}
    raise LookupError(name)


def _of(arguments: ast.arguments) -> dict[str, Parameter]:
    required = len(arguments.args) - len(arguments.defaults)
    plain = {a.arg: Parameter(i < required, a.annotation) for i, a in enumerate(arguments.args)}
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return plain | {a.arg: Parameter(value is None, a.annotation) for a, value in named}
