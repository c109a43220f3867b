"""The chain that makes a bundle, stage by stage; each stage goes on where it was interrupted.

Folder of a run: ``data/`` (scenes and grasp trials), ``detector/``, ``scorer/``, ``demos/``,
``bc/``, ``ppo/``, ``bundle/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from configs.load import as_dict, bounded
from envs.synthesis.scenes import generate
from envs.synthesis.trials import TrialsConfig, generate_trials
from perception.training.device import Computing
from perception.training.export import QuantizeConfig as DetectorQuantizeConfig
from perception.training.export import export_detector
from perception.training.parallel import gathered, place
from perception.training.scorer import WEIGHTS as SCORER_WEIGHTS
from perception.training.scorer import ScorerTrainConfig, samples_of, train_scorer
from perception.training.scorer_export import MODEL as SCORER
from perception.training.scorer_export import export_scorer
from perception.training.train import WEIGHTS, DetectorTrainConfig
from perception.training.train import train as train_detector
from perception.trials import read_trials
from policies.bundle.format import Bundle, shipped
from policies.compression.quantize import QuantizeConfig
from policies.demos.record import RecordConfig
from policies.evaluation.specs import EnvSpec
from policies.evaluation.subjects import EXPERT
from policies.learning.dagger import DaggerConfig
from policies.learning.ppo import PpoConfig
from policies.learning.tracking import Tracking
from policies.provenance import git_commit
from robot.errors import SteadyhandError
from steadyhand.stages import PolicyStages, Say, begin, seeded_stages


@dataclass(frozen=True)
class TaskConfig:
    """The environment in which the grasp policy learns; see ``envs.grasp_env.GraspEnv``.

    Attributes:
        id: Gymnasium id.
        objects: object set; ``test`` is refused.
        physics: ``nominal``, ``hard`` or ``mixed``.
        candidate_noise_m: standard deviation of the candidate's position error.
        candidate_noise_deg: standard deviation of its yaw error.
        bank_size: settled scenes, for each physics where cameras look.
        looks: where candidates and heights come from: the truth, or ``camera``: the run's own
            detector and scorer, else those of the bundle that comes with this project.
        disturbed: share of the episodes that are those of the ``disturbed`` protocol.
        slips: share of the others in which the object slips out of the fingers, once.
        step_cost: taken from the reward for each step that does not end in success.
    """

    id: str = "Steadyhand/GraspSingle-v0"
    objects: str = "train"
    physics: str = "mixed"
    candidate_noise_m: float = bounded(0.005, 0.0, 0.05)
    candidate_noise_deg: float = bounded(6.0, 0.0, 45.0)
    bank_size: int = bounded(1200, 1, 1_000_000)
    looks: Literal["truth", "camera"] = "truth"
    disturbed: float = bounded(0.0, 0.0, 1.0)
    slips: float = bounded(0.0, 0.0, 1.0)
    step_cost: float = bounded(0.01, 0.0, 1.0)

    def __post_init__(self) -> None:
        if self.objects == "test":
            raise SteadyhandError("task.objects: test objects are for measuring, not for training")

    def env(self, **changes: Any) -> EnvSpec:
        """The environment's description, with ``changes`` to its keyword arguments."""
        kwargs = {k: v for k, v in as_dict(self).items() if k not in ("id", "looks")}
        return EnvSpec(self.id, {**kwargs, **changes})


@dataclass(frozen=True)
class TrainingConfig:
    """All of ``train all``.

    Attributes:
        seed: of scenes and proof; the other stages have their own, see :func:`seeded`.
        scenes_n: training scenes (two images each).
        validation_scenes_n: scenes of train objects that are held out.
        detector: how the detector is trained.
        detector_int8: how it is quantized.
        trials: which grasps are tried for the scorer.
        trial_scenes_n: tables of train objects on which they are tried.
        validation_trial_scenes_n: tables of held-out train objects, for calibration and figures.
        scorer: how the scorer is trained.
        task: where the policy learns.
        demos: the expert's demonstrations.
        bc: cloning with rounds of corrections.
        ppo: what follows.
        policy_int8: how the policy is quantized.
        proof_episodes_n: paired episodes for the bundle's card, under each physics setting.
    """

    seed: int = bounded(0, 0, 2**31 - 1)
    scenes_n: int = bounded(1400, 1, 1_000_000)
    validation_scenes_n: int = bounded(100, 1, 1_000_000)
    detector: DetectorTrainConfig = field(default_factory=DetectorTrainConfig)
    detector_int8: DetectorQuantizeConfig = field(default_factory=DetectorQuantizeConfig)
    trials: TrialsConfig = field(default_factory=TrialsConfig)
    trial_scenes_n: int = bounded(1200, 1, 1_000_000)
    validation_trial_scenes_n: int = bounded(200, 1, 1_000_000)
    scorer: ScorerTrainConfig = field(default_factory=ScorerTrainConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    demos: RecordConfig = field(default_factory=RecordConfig)
    bc: DaggerConfig = field(default_factory=DaggerConfig)
    ppo: PpoConfig = field(default_factory=PpoConfig)
    policy_int8: QuantizeConfig = field(default_factory=QuantizeConfig)
    proof_episodes_n: int = bounded(200, 2, 1_000_000)


def seeded(config: TrainingConfig, seed: int, workers: int) -> TrainingConfig:
    """``config`` with ``seed`` added to the seed of every stage, and so many workers in each."""
    return replace(
        config,
        seed=config.seed + seed,
        detector=replace(config.detector, seed=config.detector.seed + seed),
        scorer=replace(config.scorer, seed=config.scorer.seed + seed),
        **seeded_stages(config.demos, config.bc, config.ppo, seed, workers),
    )


@dataclass(frozen=True)
class Pipeline:
    """The stages over one folder.

    Attributes:
        out: the run's folder.
        config: see :class:`TrainingConfig`.
        say: called with one line for each step worth telling.
        workers: processes where work is shared.
        tracking: gets every curve, where the run is tracked.
    """

    out: Path
    config: TrainingConfig
    say: Say
    workers: int = 2
    tracking: Tracking | None = None

    def begin(self) -> None:
        """As ``stages.begin``; of several processes the leading one writes."""
        begin(self.out, self.config, leads=place()[0] == 0)

    @property
    def policy(self) -> PolicyStages:
        """The stages that make the grasp policy."""
        c = self.config
        models: dict[str, Any] = {}
        if c.task.looks == "camera":
            spare = Bundle.load(shipped()).root / "models"
            for role in ("detector", "scorer"):
                own = self.out / role / f"{role}.onnx"
                models[role] = str(own if own.exists() else spare / own.name)
        return PolicyStages(
            self.out, c.task.env(**models), EXPERT, c.demos, c.bc, c.ppo, self.say, self._track
        )

    # Detector -------------------------------------------------------------------------------

    def scenes(self) -> tuple[Path, Path]:
        """Annotated scenes of train objects, for training and for validation."""
        c = self.config
        made = []
        for name, objects, count in (
            ("train", "train", c.scenes_n),
            ("validation", "validation", c.validation_scenes_n),
        ):
            folder = self.out / "data" / name
            if not (folder / "instances.json").exists():
                self.say(f"scenes: rendering {count} for {name}")
                generate(folder, objects, count, c.seed, workers=self.workers)
            made.append(folder)
        return made[0], made[1]

    def detector(self) -> Path:
        """The int8 detector's file, trained if it is not there; else the weights.

        A network that is there to compare with is not exported. Of several processes the leading
        one renders and exports.
        """
        folder = self.out / "detector"
        if (folder / "detector.onnx").exists():
            return folder / "detector.onnx"
        config = self.config.detector
        cuda = Computing.of(config.device, config.precision).device.type == "cuda"
        with gathered(cuda) as group:
            if group.leads:
                self.scenes()
            group.wait()
            train_set, validation_set = self._train_detector(folder)
        if config.network.architecture != "slim" or not group.leads:
            return folder / WEIGHTS
        return self.export_detector(folder / WEIGHTS, train_set, validation_set)

    def _train_detector(self, folder: Path) -> tuple[Path, Path]:
        train_set, validation_set = self.scenes()

        def tell(metrics: dict[str, Any]) -> None:
            if "wall_s" in metrics:
                self._track("detector", int(metrics.get("epoch", 0)), metrics, board=False)
                shown = {k: round(v, 4) for k, v in metrics.items() if isinstance(v, float)}
                self.say(f"detector: epoch {metrics.get('epoch')}: {shown}")

        train_detector(train_set, folder, self.config.detector, validation_set, tell)
        return train_set, validation_set

    def export_detector(self, weights: Path, calibration: Path, validation: Path) -> Path:
        """The weights as int8 ONNX, calibrated on training images, chosen on others."""
        from perception import coco

        figures = export_detector(
            weights,
            self.out / "detector",
            coco.read(calibration),
            self.config.detector_int8,
            git_commit(),
            coco.read(validation),
        )
        ap = ", ".join(f"{name} {value:.4f}" for name, value in figures["ap"].items())
        self.say(f"detector: int8 file of {figures['int8_bytes'] / 1e6:.1f} MB; AP: {ap}")
        return Path(figures["int8"])

    # Grasp scorer ---------------------------------------------------------------------------

    def trials(self) -> tuple[Path, Path]:
        """Grasp trials on train objects, for training and for validation."""
        c = self.config
        made = []
        for name, count in (
            ("train", c.trial_scenes_n),
            ("validation", c.validation_trial_scenes_n),
        ):
            folder = self.out / "data" / f"trials_{name}"

            def tell(done: int, of: int, name: str = name) -> None:
                if done % 50 == 0 or done == of:
                    self.say(f"trials: {done} of {of} tables for {name}")

            generate_trials(folder, name, count, c.seed, c.trials, self.workers, tell)
            made.append(folder)
        return made[0], made[1]

    def scorer(self) -> Path:
        """The grasp scorer's file, trained if it is not there."""
        folder = self.out / "scorer"
        if (folder / SCORER).exists():
            return folder / SCORER
        train_set, validation_set = self.trials()
        held_out = samples_of(read_trials(validation_set))

        def tell(metrics: dict[str, Any]) -> None:
            self._track("scorer", int(metrics["epoch"]), metrics)
            if metrics["epoch"] % 5 == 0:
                shown = {k: round(v, 4) for k, v in metrics.items() if isinstance(v, float)}
                self.say(f"scorer: epoch {metrics['epoch']}: {shown}")

        data = samples_of(read_trials(train_set))
        train_scorer(data, folder, self.config.scorer, held_out, tell)
        report = export_scorer(folder / SCORER_WEIGHTS, folder, held_out, git_commit())
        found = report["calibration"]["calibrated"]
        self.say(
            f"scorer: {len(data)} trials; on held-out objects AUC {found['auc']:.3f}, "
            f"Brier {found['brier']:.3f}, ECE {found['ece']:.3f}"
        )
        return folder / SCORER

    def _track(self, stage: str, step: int, values: dict[str, Any], board: bool = True) -> None:
        if self.tracking is not None:
            self.tracking.curves(stage, step, values, board)
