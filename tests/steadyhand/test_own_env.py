"""Any environment from demonstrations to a measured bundle, in tiny but real runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "policies"))

from classic_envs import PendulumExpert  # noqa: F401 (registers the small environments)

from configs.load import find, load
from perception.session import open_session
from policies.bundle.format import Bundle
from policies.bundle.manifest import BundleError
from policies.bundle.verify import verify_bundle
from policies.demos.dataset import load_demonstrations
from policies.demos.describe import describe_env
from policies.demos.record import RecordConfig, record
from policies.edge.metadata import PolicyMetadata
from policies.edge.runtime import EdgePolicy
from policies.evaluation.returns import bundle_actor, trained_actor
from policies.evaluation.specs import ActorSpec, EnvSpec
from policies.learning.chunking import ChunkingNetwork, load_network
from robot.errors import ConfigError, SteadyhandError
from steadyhand import demos, evaluate, export, train
from steadyhand.own_env import EnvTrainingConfig, _hold_int8, stages

TINY = [
    "demos.episodes=30",
    "bc.clone.epochs=40",
    "bc.clone.batch_size=32",
    "bc.clone.learning_rate=3e-3",
    "bc.clone.network.hidden=[64,64]",
    "ppo.steps=512",
    "ppo.rollout_steps=256",
    "ppo.batch_size=64",
    "ppo.guards.critic_warmup_steps=256",
    "ppo.measure.evaluate_every=256",
    "ppo.measure.evaluation_episodes=6",
    "ppo.measure.final_episodes=8",
]
ROOT = Path(__file__).parents[2]
#: What `pip install '.[train]'` brings and `pip install .` does not.
TRAIN_EXTRA = {
    "alembic", "faster_coco_eval", "h5py", "mlflow", "onnx", "onnxscript", "pyarrow",
    "sqlalchemy", "stable_baselines3", "tensorboard", "torch", "torchvision",
}  # fmt: skip
GOAL = "Test/Goal-v0"
IMPORTS = ["classic_envs"]


@pytest.fixture(scope="module")
def goal_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations in the goal environment, as a user records them."""
    folder = tmp_path_factory.mktemp("goal") / "demos"
    demos.record(folder, 30, GOAL, IMPORTS, None, "classic_envs:GoalExpert", noise=0.1, workers=0)
    return folder


@pytest.fixture(scope="module")
def goal_run(goal_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run in it: the set is given for cloning, and found again by PPO."""
    run = tmp_path_factory.mktemp("goal") / "run"
    train.bc(run, set_=TINY, env=GOAL, import_=IMPORTS, demos=goal_set, workers=0)
    train.ppo(run, set_=TINY, env=GOAL, import_=IMPORTS, workers=0)
    return run


@pytest.fixture(scope="module")
def goal_bundle(goal_run: Path) -> Path:
    out = goal_run.parent / "bundle"
    export.export(goal_run, out, episodes=10, workers=0)
    return out


def figures_of(capsys: pytest.CaptureFixture[str], call: Callable[[], None]) -> dict:
    capsys.readouterr()
    call()
    return json.loads(capsys.readouterr().out)


def test_a_run_stands_alone_and_resumes(goal_set: Path, goal_run: Path, tmp_path: Path) -> None:
    assert load_demonstrations(goal_run / "demos").episodes == 30
    before = {p: p.stat().st_mtime_ns for p in goal_run.rglob("*.pt")}
    assert len(before) >= 4
    train.ppo(goal_run, set_=TINY, env=GOAL, import_=IMPORTS, demos=goal_set, workers=0)
    assert {p: p.stat().st_mtime_ns for p in goal_run.rglob("*.pt")} == before
    result = json.loads((goal_run / "ppo" / "result.json").read_text())
    assert (result["metric"], result["env"]["id"]) == ("success", GOAL)
    other = tmp_path / "other"
    env = EnvSpec(GOAL, imports=("classic_envs",))
    record(other, env, ActorSpec("classic_envs:GoalExpert"), RecordConfig(3, seed=9, workers=0))
    with pytest.raises(ConfigError, match="holds another set than"):
        train.ppo(goal_run, set_=TINY, env=GOAL, import_=IMPORTS, demos=other, workers=0)
    with pytest.raises(SteadyhandError, match="another configuration"):
        train.bc(goal_run, set_=[*TINY, "bc.clone.seed=4"], env=GOAL, import_=IMPORTS, workers=0)


def test_the_bundle_says_what_it_is_and_verifies(goal_bundle: Path) -> None:
    assert [c.name for c in verify_bundle(goal_bundle) if not c.ok] == []
    bundle = Bundle.load(goal_bundle)
    assert bundle.manifest.env == GOAL
    assert set(bundle.manifest.roles) == {"policy", "policy_fp32"}
    assert set(bundle.files) == {
        "models/policy.onnx", "models/policy_fp32.onnx", "card.json", "CARD.md", "reference.npz",
    }  # fmt: skip
    props = open_session(bundle.model("policy"), "policy").get_modelmeta().custom_metadata_map
    metadata = PolicyMetadata.from_props(props)
    assert (metadata.env, metadata.policy_rate_hz, metadata.precision) == (GOAL, 10.0, "int8")
    assert (metadata.action_low, metadata.action_high) == ((-1.0, 0.0), (3.0, 0.5))
    assert metadata.observation_names[-1] == "desired_goal.1"
    proof = bundle.card["proof"]
    assert {"int8", "fp32", "int8_minus_fp32"} <= set(proof)
    assert proof["int8"]["episodes"] == 10 and proof["int8"]["success_rate"] > 0.5
    assert GOAL in (goal_bundle / "CARD.md").read_text()


def test_it_is_measured_in_its_environment(
    goal_run: Path, goal_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for given in ({"bundle": goal_bundle}, {"bundle": goal_bundle, "precision": "fp32"},
                  {"policy": goal_run}):  # fmt: skip
        results.append(
            figures_of(
                capsys,
                lambda given=given: evaluate.policy(
                    GOAL, import_=IMPORTS, episodes=10, workers=0, json=True, **given
                ),
            )
        )
    int8, fp32, run = results
    assert fp32["mean_return"] == pytest.approx(run["mean_return"], abs=1e-3)
    assert int8["mean_return"] == pytest.approx(fp32["mean_return"], abs=0.3)
    assert int8["success_ci95"][0] <= int8["success_rate"] <= int8["success_ci95"][1]
    assert int8["env"] == GOAL and int8["subject"].endswith(":int8")


def test_a_bundle_is_refused_elsewhere(goal_run: Path, goal_bundle: Path) -> None:
    spec = describe_env(EnvSpec(GOAL, imports=("classic_envs",)))
    bundle_actor(goal_bundle, "int8", spec)
    with pytest.raises(SteadyhandError, match="was made for Test/Goal-v0, not for Other-v0"):
        bundle_actor(goal_bundle, "int8", replace(spec, env={"id": "Other-v0"}))
    with pytest.raises(SteadyhandError, match="actions lie in"):
        bundle_actor(goal_bundle, "int8", replace(spec, action_high=(3.0, 50.0)))
    with pytest.raises(SteadyhandError, match="was made for 7 observations"):
        bundle_actor(goal_bundle, "int8", describe_env(EnvSpec("Pendulum-v1")))
    with pytest.raises(SteadyhandError, match="was trained in Test/Goal-v0, not in Pendulum-v1"):
        trained_actor(goal_run, describe_env(EnvSpec("Pendulum-v1")))
    with pytest.raises(SteadyhandError, match="was made for 7 observations"):
        EdgePolicy(goal_bundle)
    with pytest.raises(BundleError, match="is a policy for Test/Goal-v0, with no limits"):
        _ = Bundle.load(goal_bundle).limits_path
    with pytest.raises(ConfigError, match="go with the grasp task"):
        export.export(goal_run, goal_bundle.parent / "other", detector=Path("detector.onnx"))


def test_int8_that_earns_less_is_refused() -> None:
    fp32 = {"return_std": 10.0, "mean_return": 100.0}

    def proof(lost: float, low: float, success: dict | None = None) -> dict:
        difference = {"difference": -lost, "ci95": [-lost - 1, low]}
        return {"fp32": fp32, "int8_minus_fp32": {"return": difference, "success": success}}

    _hold_int8(proof(0.9, -0.5))
    _hold_int8(proof(3.0, 0.5))  # within the noise
    with pytest.raises(SteadyhandError, match="int8 earns 3 less"):
        _hold_int8(proof(3.0, -0.5))
    with pytest.raises(SteadyhandError, match=r"succeeds in 5.0% fewer"):
        _hold_int8(proof(0.0, 0.5, {"difference": -0.05, "ci95": [-0.08, -0.02]}))


@pytest.mark.parametrize("budget", ["env_quick", "env_full"])
def test_the_budgets_load(budget: str) -> None:
    config = load(EnvTrainingConfig, find("train", budget))
    assert config.ppo.reward_scale == 0.0 and config.bc.rounds == 0
    env = EnvSpec("Pendulum-v1")
    other = config.of(env, 5, workers=1)
    assert other.env == env
    assert (other.seed, other.demos.seed, other.ppo.seed, other.ppo.workers) == (5, 5, 5, 1)


def test_corrections_need_an_expert(tmp_path: Path, goal_set: Path) -> None:
    config = load(EnvTrainingConfig, find("train", "env_quick"), [*TINY, "bc.rounds=1"])
    config = config.of(EnvSpec(GOAL, imports=("classic_envs",)), 0, 0)
    with pytest.raises(ConfigError, match="corrections need an expert"):
        stages(tmp_path, config, goal_set, None, lambda _: None).clone()


def test_without_success_returns_are_compared(tmp_path: Path) -> None:
    """A real classic: no success flag, actions of ±2 N·m, an expert, corrections, PPO."""
    said: list[str] = []
    few = ["demos.episodes=6", "bc.rounds=1", "bc.episodes=3", "bc.clone.epochs=8"]
    config = load(EnvTrainingConfig, find("train", "env_quick"), [*TINY, *few])
    config = config.of(EnvSpec("Pendulum-v1"), 0, 0)
    expert = "classic_envs:PendulumExpert"
    policy = stages(tmp_path, config, None, expert, said.append)
    network = policy.improve()
    assert (network.observation_size, network.action_size) == (3, 1)
    assert any("drove 3 episodes with a mean return of -" in line for line in said)
    result = json.loads((tmp_path / "ppo" / "result.json").read_text())
    assert result["metric"] == "return" and result["difference"] is None
    actions = load_demonstrations(tmp_path / "demos").action
    assert 0.5 < np.abs(actions).max() <= 1.0


@pytest.mark.slow
def test_a_clone_of_the_pendulum_expert_swings_up(tmp_path: Path) -> None:
    """The whole chain with the shipped settings for cloning; a still pendulum earns -1,200."""
    config = load(EnvTrainingConfig, find("train", "env_quick"), ["ppo.steps=2048"])
    config = config.of(EnvSpec("Pendulum-v1"), 0, 0)
    policy = stages(tmp_path, config, None, "classic_envs:PendulumExpert", lambda _: None)
    policy.improve()
    export.export(tmp_path, tmp_path / "bundle", episodes=30, workers=0)
    proof = Bundle.load(tmp_path / "bundle").card["proof"]
    assert proof["int8"]["mean_return"] > -250
    assert abs(proof["int8_minus_fp32"]["return"]["difference"]) < 10


def test_a_bundle_is_measured_without_what_learns(goal_bundle: Path) -> None:
    """In a fresh interpreter without the train extra, from the environment to the figures."""
    program = (
        "import sys\n"
        "class Absent:\n"
        f"    extra = {sorted(TRAIN_EXTRA)!r}\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in self.extra:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from steadyhand.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    call = ["evaluate", "policy", "--env", GOAL, "--import", "classic_envs", "--episodes", "3"]
    call += ["--workers", "0", "--json"]
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "policies")])

    def measured(*subject: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *call, *subject],
            env={**os.environ, "PYTHONPATH": places},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = measured("--bundle", str(goal_bundle))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["episodes"] == 3
    # A network of a training does need torch, and says so.
    done = measured("--policy", str(goal_bundle))
    assert done.returncode == 2
    assert "needs torch: pip install 'steadyhand[train]'" in " ".join(done.stderr.split())


CHUNKS = [
    "bc.clone.architecture=chunking",
    "bc.clone.chunking.history=3",
    "bc.clone.chunking.horizon=4",
    "bc.clone.chunking.width=32",
    "bc.clone.chunking.encoder_layers=1",
    "bc.clone.chunking.feedforward=64",
]


def test_a_chunking_policy_goes_the_same_way(
    goal_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cloned with cross-validation, exported, verified and measured; PPO says why not."""
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    settings = [*TINY, *CHUNKS, "bc.clone.epochs=15"]
    given = {"env": GOAL, "import_": IMPORTS, "demos": goal_set, "workers": 0}
    told = figures_of(capsys, lambda: train.bc(run, set_=settings, folds=2, json=True, **given))[
        "folds"
    ]
    assert told["folds"] == 2 and told["loss_std"] > 0 and len(told["error_mean"]) == 2
    assert isinstance(load_network(run / "bc" / "network.pt"), ChunkingNetwork)
    export.export(run, bundle, stage="bc", episodes=10, workers=0)
    assert [c.name for c in verify_bundle(bundle) if not c.ok] == []
    where = {"import_": IMPORTS, "episodes": 10, "workers": 0, "json": True}
    fp32 = figures_of(
        capsys, lambda: evaluate.policy(GOAL, bundle=bundle, precision="fp32", **where)
    )
    own = figures_of(capsys, lambda: evaluate.policy(GOAL, policy=run, **where))
    assert fp32["mean_return"] == pytest.approx(own["mean_return"], abs=1e-3)
    assert own["success_rate"] > 0.5
    with pytest.raises(ConfigError, match="ppo cannot begin from a chunking clone"):
        train.ppo(tmp_path / "no", set_=settings, **given)
    with pytest.raises(ConfigError, match="ppo cannot begin from a chunking clone"):
        train.everything(tmp_path / "no", set_=CHUNKS)
    assert not (tmp_path / "no").exists()
