"""Backbones from elsewhere, and frozen ones."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from perception.session import ModelError
from robot.errors import ConfigError

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402

from perception.training.backbone import freeze, load_backbone  # noqa: E402
from perception.training.network import NetworkConfig, build_network  # noqa: E402
from perception.training.train import DetectorTrainConfig, train  # noqa: E402

SMALL = NetworkConfig(
    stage_channels=(16, 16, 32, 32), pyramid_channels=16, head_channels=32, proposals=30
)
CONFIG = DetectorTrainConfig(
    epochs=1, batch=4, warmup_steps=2, threads=1, precision="fp32", network=SMALL
)


def test_the_first_block_of_each_stage_of_a_resnet18_fits(tmp_path, caplog):
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_network(NetworkConfig()).backbone
    stem = backbone.stem[0].weight.clone()
    with caplog.at_level(logging.INFO):
        load_backbone(backbone, tmp_path / "resnet18.pth")
    for ours, theirs in ((backbone.stage1, resnet.layer1[0]), (backbone.stage4, resnet.layer4[0])):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value), name
    assert torch.equal(backbone.stem[0].weight, stem)  # 3x3 here, 7x7 there
    assert "66 of 94 tensors" in caplog.text


def test_torchvisions_mobilenet_fits_the_network_to_compare_with(tmp_path):
    mobilenet = torchvision.models.mobilenet_v3_large(weights=None)
    torch.save(mobilenet.state_dict(), tmp_path / "mobilenet.pth")
    shape = NetworkConfig(architecture="mobilenet_v3_large_320_fpn", channels="rgb")
    backbone = build_network(shape).backbone
    taken = load_backbone(backbone, tmp_path / "mobilenet.pth")
    assert taken == len(mobilenet.features.state_dict())
    assert torch.equal(backbone.body["0"][0].weight, mobilenet.features[0][0].weight)


def test_a_run_starts_from_a_backbone_and_leaves_frozen_stages_as_they_are(data, tmp_path):
    torch.manual_seed(9)
    donor = build_network(SMALL)
    donor.backbone.stem[1].running_mean += 0.3
    torch.save({"network": donor.state_dict()}, tmp_path / "donor.pt")
    config = replace(CONFIG, backbone_weights=str(tmp_path / "donor.pt"), frozen_stages=3)
    weights = torch.load(train(data, tmp_path / "run", config), weights_only=True)["network"]
    for name, value in donor.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        part = name.split(".")[1] if name.startswith("backbone.") else ""
        same = torch.equal(value, weights[name])
        assert same is (part in ("stem", "stage1", "stage2")), name
    # A resumed run needs the file no more.
    (tmp_path / "donor.pt").unlink()
    assert train(data, tmp_path / "run", replace(config, epochs=1)) is not None


def test_backbones_that_do_not_fit_are_named(tmp_path):
    backbone = build_network(SMALL).backbone
    with pytest.raises(ModelError, match=r"none\.pt: no such file"):
        load_backbone(backbone, tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match=r"bad\.pt: not a torch state dict") as error:
        load_backbone(backbone, tmp_path / "bad.pt")
    assert "\n" not in str(error.value)
    # A counter of the right name is not yet a weight.
    other = {"stem.0.weight": torch.zeros(3), "stem.1.num_batches_tracked": torch.tensor(4)}
    for content in (other, {}, [torch.zeros(2)], {"epoch": 3}):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ModelError, match=r"other\.pt: no tensor has a name and shape"):
            load_backbone(backbone, tmp_path / "other.pt")


def test_impossible_numbers_of_stages_are_named():
    network = build_network(SMALL)
    for number in (-1, 6):
        with pytest.raises(ConfigError, match=f"frozen_stages: {number} is out of range"):
            freeze(network.backbone, number)
    reference = build_network(NetworkConfig(architecture="mobilenet_v3_large_320_fpn"))
    assert freeze(reference.backbone, 0) == []
    with pytest.raises(ConfigError, match="only the slim network"):
        freeze(reference.backbone, 1)
