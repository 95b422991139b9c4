from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from places import ROOT

from abhinaya.models.asr.load import TRANSCRIBERS
from abhinaya.models.declared import declared
from abhinaya.models.errors import EXTRA_OF, MissingPackageError, OptionsError, UnknownModelError
from abhinaya.models.registry import MODELS, REPLACED, check, load


def test_the_registry_and_its_checks_import_no_model() -> None:
    code = (
        "import sys, abhinaya.models.labels; from abhinaya.models.registry import check\n"
        "check('wavlm', {'checkpoint': 'org/name'})\n"
        "heavy = {'torch', 'transformers', 'peft', 'safetensors'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'salmonn-13b'"):
        load("salmon-13b")
    with pytest.raises(UnknownModelError, match="known: audio-classification"):
        load("xyz")


@pytest.mark.parametrize("old", REPLACED)
def test_a_model_of_before_names_what_took_its_place(old: str) -> None:
    assert old not in MODELS
    assert REPLACED[old] in MODELS
    with pytest.raises(UnknownModelError, match=f"'{REPLACED[old]}' took its place"):
        load(old)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("wavlm", {"checkpoint": "x", "devise": "cpu"}, "did you mean 'device'"),
        ("salmonn-7b", {"trim": True}, "no option 'trim'"),
        ("llama-lora", {"llm": "x"}, "'checkpoint' is missing"),
        ("text-classification", {"zzzzz": 1, "model": "x"}, "known: attention, compile, device"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(name, options, message) -> None:
    with pytest.raises(OptionsError, match=message):
        load(name, options)


@pytest.mark.parametrize(
    ("package", "module", "model"),
    [("torch", "published.wavlm", "wavlm"), ("transformers", "published.llama", "llama-lora")],
)
def test_of_a_package_that_is_missing_the_error_names_the_extra(
    package: str, module: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"abhinaya.models.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)  # as Python marks what it did not find
    with pytest.raises(MissingPackageError) as caught:
        load(model, {"checkpoint": "x"} if model == "wavlm" else {"llm": "x", "checkpoint": "y"})
    assert str(caught.value) == (
        f"model {model!r}: needs the package {package}, which is not installed; "
        "install it with: pip install 'abhinaya[torch]'"
    )


def test_the_extras_of_errors_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    core = {Requirement(line).name for line in project["dependencies"]}
    for package, extra in EXTRA_OF.items():
        other = {"sklearn": "scikit-learn", "opentelemetry": "opentelemetry-sdk"}
        name = other.get(package, package)
        assert name in {Requirement(line).name for line in extras[extra]}
        assert name not in core


@pytest.mark.parametrize(("name", "place"), [*MODELS.items(), *TRANSCRIBERS.items()])
def test_what_the_source_declares_is_what_the_class_takes(
    name: str, place: tuple[str, str]
) -> None:
    module, attribute = place
    taken = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    found = declared(module, attribute, name)
    assert {k: p.required for k, p in found.items()} == {
        k: o.default is o.empty for k, o in taken.items()
    }
    for key, option in taken.items():
        assert not found[key].fault(option.default) or option.default is option.empty


@pytest.mark.parametrize(
    ("name", "options", "fault"),
    [
        ("wavlm", {"compile": "yes"}, "compile = 'yes': is not of the type bool"),
        ("wavlm", {"device": 0}, "device = 0: is not of the type str"),
        ("llama-lora", {"max_tokens": 1.5}, "max_tokens = 1.5: is not of the type int"),
        ("llama-lora", {"max_tokens": True}, "max_tokens = True: is not of the type int"),
        ("llama-lora", {"lora_alpha": 8, "merge": False}, ""),
        ("zero-shot", {"output": "txt"}, "output = 'txt': is not of the type Literal"),
        ("zero-shot", {"output": "text", "timeout_s": 3, "api_key_env": "KEY"}, ""),
        ("wavlm", {"labels": {"a": "sad"}}, ""),
    ],
)
def test_the_types_of_options_are_checked_before_a_model_is_imported(
    name: str, options: dict[str, object], fault: str
) -> None:
    needed = {
        "wavlm": {"checkpoint": "org/name"},
        "llama-lora": {"llm": "org/x", "checkpoint": "x"},
    }
    needed["zero-shot"] = {"base_url": "http://127.0.0.1/v1", "model": "m"}
    if not fault:
        check(name, needed[name] | options)
        return
    with pytest.raises(OptionsError) as error:
        check(name, needed[name] | options)
    assert fault in str(error.value)
