"""Device and precision of a training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from robot.errors import ConfigError

torch = pytest.importorskip("torch")

from perception.training.device import Computing, bf16_is_fast  # noqa: E402
from perception.training.network import NetworkConfig  # noqa: E402
from perception.training.train import DetectorTrainConfig, train  # noqa: E402

CONFIG = DetectorTrainConfig(
    epochs=1, batch=4, warmup_steps=2, threads=1, network=NetworkConfig(
        stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
    ),
)  # fmt: skip


@pytest.fixture
def gpus(monkeypatch):
    """Pretends that there are so many GPUs, with or without bfloat16."""

    def pretend(count, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)

    return pretend


def test_without_a_gpu_it_is_the_processor(gpus, data, tmp_path):
    gpus(0)
    auto = Computing.of("auto", "auto")
    assert auto.device.type == "cpu"
    assert auto.dtype == (torch.bfloat16 if bf16_is_fast() else torch.float32)
    with pytest.raises(ConfigError, match="device: cuda, but torch finds no GPU"):
        Computing.of("cuda", "auto")
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        Computing.of("cpu", "fp16")
    with pytest.raises(ConfigError, match="device: cuda"):
        train(data, tmp_path, replace(CONFIG, device="cuda"))


def test_a_gpu_is_taken_and_its_best_half_precision(gpus):
    gpus(1)
    assert Computing.of("auto", "auto") == Computing(torch.device("cuda", 0), torch.bfloat16)
    assert Computing.of("cpu", "fp32") == Computing(torch.device("cpu"), torch.float32)
    gpus(1, bf16=False)
    assert Computing.of("cuda", "auto").dtype == torch.float16
    assert Computing.of("cuda", "fp32").dtype == torch.float32


def test_each_process_has_a_gpu_of_its_own(gpus, monkeypatch):
    gpus(2)
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert Computing.of("auto", "auto").device == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="4 processes, but this machine has 2 GPUs"):
        Computing.of("auto", "auto")


def test_only_float16_scales_its_gradients(gpus):
    cpu = torch.device("cpu")
    assert not Computing(cpu, torch.float32).scaler().is_enabled()
    assert not Computing(cpu, torch.bfloat16).scaler().is_enabled()
    gpus(1)
    assert Computing(torch.device("cuda", 0), torch.float16).scaler().is_enabled()
    with Computing(cpu, torch.float32).autocast():
        assert not torch.is_autocast_enabled("cpu")
    with Computing(cpu, torch.bfloat16).autocast():
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16
        assert torch.is_autocast_enabled("cpu")


def test_a_run_goes_on_on_another_device_and_in_another_precision(data, tmp_path):
    train(data, tmp_path, replace(CONFIG, device="auto", precision="bf16"))
    longer = replace(CONFIG, epochs=2, device="cpu", precision="fp32")
    assert train(data, tmp_path, longer) is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_training_on_a_gpu_goes_on_on_the_processor(data, tmp_path, precision):
    train(data, tmp_path, replace(CONFIG, device="cuda", precision=precision), data)
    state = torch.load(tmp_path / "weights.pt", weights_only=True, map_location="cpu")
    assert all(torch.isfinite(v.float()).all() for v in state["network"].values())
    longer = replace(CONFIG, epochs=2, device="cpu", precision="fp32")
    assert train(data, tmp_path, longer) is not None
    assert train(data, tmp_path, replace(longer, epochs=3, device="cuda")) is not None
