"""From the scorer's weights to the file that is shipped: calibrated, exported, compared."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from configs.load import as_dict, digest
from perception.coco import write_bytes
from perception.scorer import INPUTS, NUMBERS, OUTPUT, PATCH_CELLS, OnnxGraspScorer, scorer_metadata
from perception.session import ModelError
from perception.training.calibration import (
    Figures,
    Floats,
    Platt,
    area_under_curve,
    figures,
    fit_platt,
    reliability_svg,
)
from perception.training.scorer import Samples, ScorerNetwork, load_network, logits

_OPSET = 17
TOLERANCE = 1e-5

MODEL, REPORT, DIAGRAM = "scorer.onnx", "scorer.json", "reliability.svg"


@dataclass(frozen=True)
class Calibration:
    """Platt's numbers and what they are worth.

    Attributes:
        platt: fitted on all planned held-out trials; this is what ships.
        raw: figures of the network alone on planned held-out trials.
        calibrated: figures with numbers fitted on the other half of the tables, so that no trial
            is judged by numbers that it helped to fit.
        everything: the same over all held-out trials, the deliberately poor ones included.
        analytic_auc: AUC of the analytic score on planned held-out trials.
    """

    platt: Platt
    raw: Figures
    calibrated: Figures
    everything: Figures
    analytic_auc: float


class CalibratedScorer(nn.Module):
    """The graph that ships: patch and numbers to a calibrated probability."""

    def __init__(self, network: ScorerNetwork, platt: Platt) -> None:
        super().__init__()
        self.network = network
        self.platt = platt

    def forward(self, patch: Tensor, number: Tensor) -> Tensor:
        """(n, 2, 24, 40) and (n, 4) to (n,) probabilities."""
        logit = self.network(patch, number)
        return torch.sigmoid(self.platt.slope * logit + self.platt.offset)


def calibrate(network: ScorerNetwork, held_out: Samples) -> tuple[Calibration, Floats]:
    """Fit Platt's scaling on planned trials of held-out objects.

    Returns:
        The calibration, and the (n,) cross-fitted probabilities of all held-out trials.
    """
    logit = logits(network, held_out)
    probability = np.empty_like(logit)
    for half in (0, 1):
        here = held_out.scene % 2 == half
        fit = held_out.planned & ~here
        probability[here] = fit_platt(logit[fit], held_out.held[fit])(logit[here])
    planned = held_out.planned
    held = held_out.held[planned]
    score = held_out.number[planned, NUMBERS.index("analytic score, 1")].astype(np.float64)
    return (
        Calibration(
            fit_platt(logit[planned], held),
            figures(Platt()(logit[planned]), held),
            figures(probability[planned], held),
            figures(probability, held_out.held),
            area_under_curve(score, held),
        ),
        probability,
    )


def export_onnx(module: CalibratedScorer, config_hash: str, git_commit: str = "unknown") -> bytes:
    """The graph as ONNX with its metadata, any number of candidates at once."""
    stream = io.BytesIO()
    example = (torch.zeros(2, 2, *PATCH_CELLS), torch.zeros(2, len(NUMBERS)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces its other exporter at each call
        torch.onnx.export(
            module.eval(),
            example,
            stream,  # type: ignore[arg-type]  # this exporter writes to files and streams
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "n"} for name in (*INPUTS, OUTPUT)},
            opset_version=_OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(stream.getvalue())
    extra = {"config_hash": config_hash, "git_commit": git_commit}
    onnx.helper.set_model_props(model, scorer_metadata(**extra))
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


@torch.no_grad()
def parity(module: CalibratedScorer, model: bytes, data: Samples) -> float:
    """Largest difference between torch and ONNX, over recorded patches and several batch sizes.

    Raises:
        ModelError: it is more than ``TOLERANCE``.
    """
    scorer = OnnxGraspScorer(model)
    worst = 0.0
    for count in (1, 2, 7, 64, len(data)):
        patch, number = data.patch[:count], data.number[:count]
        theirs = module(torch.from_numpy(patch), torch.from_numpy(number)).numpy()
        worst = max(worst, float(np.abs(scorer.run(patch, number) - theirs).max()))
    if not worst <= TOLERANCE:
        raise ModelError(f"scorer: ONNX and torch differ by {worst:.2e}, more than {TOLERANCE:.0e}")
    return worst


def export_scorer(
    weights: Path | str, out: Path | str, held_out: Samples, git_commit: str = "unknown"
) -> dict[str, Any]:
    """Weights to ``scorer.onnx``, ``scorer.json`` (figures) and ``reliability.svg`` in ``out``.

    Args:
        weights: ``weights.pt`` of a run.
        out: folder of the files.
        held_out: trials on objects that were not trained on: they calibrate and they measure.
        git_commit: for the metadata.

    Returns:
        The figures, as they stand in ``scorer.json``.

    Raises:
        ModelError: the weights are no scorer's, or the exported graph computes something else.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    network, config = load_network(weights)
    calibration, probability = calibrate(network, held_out)
    module = CalibratedScorer(network, calibration.platt).eval()
    model = export_onnx(module, digest(config), git_commit)
    report = {
        "calibration": as_dict(calibration),
        "parity": parity(module, model, held_out),
        "parameters": sum(p.numel() for p in network.parameters()),
        "bytes": len(model),
    }
    planned = held_out.planned
    picture = reliability_svg(
        probability[planned],
        held_out.held[planned],
        f"Planned grips on held-out objects: {int(planned.sum())} trials, "
        f"ECE {calibration.calibrated.ece:.3f}",
    )
    write_bytes(out / DIAGRAM, picture.encode())
    write_bytes(out / REPORT, (json.dumps(_plain(report), indent=2) + "\n").encode())
    write_bytes(out / MODEL, model)
    return report


def _plain(value: Any) -> Any:
    """``value`` with None in place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
