from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Path]:
    """Path of a golden file; skips where the files are not there."""

    def find(name: str) -> Path:
        path = GOLDEN / name
        if not path.exists():
            pytest.skip(f"golden values are not at {GOLDEN}")
        return path

    return find


@pytest.fixture(scope="session")
def golden_tensors(golden: Callable[[str], Path]) -> Callable[[str], dict[str, Tensor]]:
    return lambda name: load_file(golden(name))


@pytest.fixture(scope="session")
def close() -> Callable[[Tensor, Tensor, float], None]:
    """Assert that the largest absolute difference is within a bound, and say how large it is."""

    def check(found: Tensor, expected: Tensor, bound: float) -> None:
        assert found.shape == expected.shape
        worst = (found.detach().double() - expected.double()).abs().max().item()
        assert worst <= bound, f"largest difference {worst:.3g}, bound {bound:.3g}"

    return check


@pytest.fixture(scope="session")
def shaken() -> Callable[[nn.Module, int], nn.Module]:
    """Give every weight a random value of lively size, so that no term is invisible in a test."""

    def shake(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in module.named_parameters():
                noise = torch.randn(weight.shape, generator=generator)
                if weight.ndim == 1:
                    is_gain = name.endswith("weight")
                    weight.copy_(1.0 + 0.2 * noise if is_gain else 0.2 * noise)
                else:
                    weight.copy_(noise / max(weight[0].numel(), 1) ** 0.5)
        return module.eval()

    return shake


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory, shaken) -> Callable[..., Path]:
    """Save a causal language model of random weights with a byte tokenizer, as the Hub has them."""

    def build(eos: str = "</s>", bos: str = "<s>", hidden: int = 32, **more) -> Path:
        folder = tmp_path_factory.mktemp("llm")
        specials = ["<unk>", bos, eos]
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = {token: i for i, token in enumerate([*specials, *alphabet])}
        made = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast = PreTrainedTokenizerFast(
            tokenizer_object=made, bos_token=bos, eos_token=eos, unk_token="<unk>"
        )
        fast.save_pretrained(folder)
        config = LlamaConfig(
            vocab_size=len(vocab),
            hidden_size=hidden,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            **more,
        )
        shaken(LlamaForCausalLM(config), 3).save_pretrained(folder)
        return folder

    return build


@pytest.fixture
def speech() -> Callable[..., np.ndarray]:
    """Something like a voice: harmonics under a moving envelope, with noise."""

    def make(samples: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        t = np.arange(samples) / 16_000
        pitch = 2 * np.pi * (120 + 40 * seed) * t + np.sin(2 * np.pi * 5 * t)
        wave = sum(np.sin(k * pitch) / k for k in range(1, 6)) * (1 + np.sin(9 * t)) * 0.1
        wave = (wave + 0.01 * rng.standard_normal(samples)).astype(np.float32)
        wave.flags.writeable = False  # as it comes off a socket
        return wave

    return make
