"""The command line as a user meets it: help, one JSON object, one line for what is wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
VERBS = (
    "run",
    "look",
    "scenes",
    "export",
    "verify",
    "compress",
    "canary",
    "drift",
    "demos record",
    "demos teleop",
    "demos info",
    "demos convert",
    "demos drop",
    "train detector",
    "train adapt",
    "train scorer",
    "train bc",
    "train ppo",
    "train all",
    "evaluate grasp",
    "evaluate policy",
    "evaluate perception",
    "runs list",
    "runs compare",
    "runs plot",
    "bench env",
    "bench edge",
    "bench perception",
    "bench planning",
    "robot info",
    "robot check",
    "robot weigh",
    "bench safety",
    "calibrate",
    "estop",
    "faults",
    "loop",
    "replay",
    "soak",
    "topic list",
    "topic echo",
    "topic hz",
)


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


# Beside the package, the small environments of the policies' tests.
PLACES = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "policies")))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PLACES, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def cli(*arguments: object, largest_file: int | None = None) -> Done:
    """Run ``steadyhand`` in a fresh interpreter, which may write files of so many bytes."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    done = subprocess.run(
        [sys.executable, "-m", "steadyhand.cli", *map(str, arguments)],
        cwd=ROOT,
        env=ENVIRONMENT,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


#: Imports once, then forks a process for each call: starting afresh takes seconds each time.
FORKING = """
import json, os, sys, tempfile, traceback
import steadyhand.cli, steadyhand.run, steadyhand.evaluate, steadyhand.pipeline
for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                steadyhand.cli.main(json.loads(line))
            except SystemExit as stop:
                code = stop.code
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    print(json.dumps([code, *texts]), flush=True)
"""


@pytest.fixture(scope="module")
def fork() -> Iterator[Callable[..., Done]]:
    """Runs ``steadyhand`` in a process that has imported it already."""
    server = subprocess.Popen(
        [sys.executable, "-c", FORKING],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def call(*arguments: object) -> Done:
        server.stdin.write(json.dumps([str(a) for a in arguments]) + "\n")
        server.stdin.flush()
        return Done(*json.loads(server.stdout.readline()))

    yield call
    server.stdin.close()
    server.wait(20)


def one_json(done: Done) -> dict:
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert len(lines) == 1, done.out
    content = json.loads(lines[0])
    assert isinstance(content, dict)
    return content


def box_urdf(path: Path, size: str, inertia: bool = True) -> Path:
    inertial = (
        '<inertial><mass value="0.1"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" '
        'izz="1e-4"/></inertial>'
    )
    path.write_text(
        f'<robot name="a"><link name="b">{inertial if inertia else ""}<collision><geometry>'
        f'<box size="{size}"/></geometry></collision></link></robot>'
    )
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A whole bundle with an untrained policy and no detector."""
    import torch

    from policies.bundle.contents import card_markdown, record_reference, robot_files
    from policies.bundle.format import write_bundle
    from policies.compression.quantize import QuantizeConfig, quantize_policy
    from policies.edge.metadata import PolicyMetadata, robot_observation
    from policies.learning.export import export_onnx
    from policies.learning.network import NetworkConfig, PolicyNetwork
    from robot.execution.action import ACTION, DEFAULT_SCALE

    torch.manual_seed(0)
    names, units = robot_observation()
    network = PolicyNetwork(
        NetworkConfig(hidden=(32, 32)), np.zeros(len(names)), np.ones(len(names)), len(ACTION)
    )
    metadata = PolicyMetadata(
        names,
        ACTION,
        units,
        action_scale=asdict(DEFAULT_SCALE),
        frames={"observation": "grasp", "action": "grasp"},
    )
    fp32 = export_onnx(network, metadata)
    x = np.random.default_rng(0).normal(size=(200, len(names))).astype(np.float32)
    int8, _ = quantize_policy(fp32, x, QuantizeConfig(samples=100))
    models = {"policy": int8, "policy_fp32": fp32}
    files = robot_files()
    card = {"made": {"by": "a test"}}
    return write_bundle(
        tmp_path_factory.mktemp("made") / "untrained",
        models=models,
        limits_yaml=files.pop("limits.yaml"),
        card=card,
        card_text=card_markdown(card),
        reference=record_reference(models, {r: {"observation": x[:20]} for r in models}),
        created_from={"git_commit": "0" * 40},
        extra=files,
    ).root


@pytest.fixture(scope="module")
def corrupt(bundle, tmp_path_factory) -> Path:
    """The same with one bit of its policy flipped."""
    copy = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("flipped") / "corrupt"))
    file = copy / "models" / "policy.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    return copy


# Help -----------------------------------------------------------------------------------------


def test_every_verb_has_help(fork):
    for verb in VERBS:
        done = fork(*verb.split(), "--help")
        assert done.code == 0, (verb, done.err)
        assert verb.split()[-1] in done.out
        assert done.err == "", verb
        seedless = (
            "verify",
            "demos info",
            "demos convert",
            "demos drop",
            "runs list",
            "runs compare",
            "compress",  # the seeds of a recipe are settings
            "drift",
            "robot info",
            "robot check",
            "runs plot",
            "estop",
            "replay",
            "calibrate",
            "topic list",
            "topic echo",
            "topic hz",
        )
        if verb not in seedless:
            assert "--seed" in done.out or verb.startswith("bench"), verb
        assert "--json" in done.out or verb == "topic echo", verb


def test_the_list_of_verbs_is_whole():
    """Each verb that is registered is one that these tests know."""
    import typer

    from steadyhand import cli as module

    if not module.app.registered_commands:
        module._register()

    def names(app: typer.Typer, before: str = "") -> set[str]:
        out = {f"{before}{c.name}" for c in app.registered_commands}
        for group in app.registered_groups:
            out |= names(group.typer_instance, f"{before}{group.name} ")
        return out

    assert names(module.app) == set(VERBS)


def test_help_lists_the_verbs_and_alone_it_helps(fork):
    alone, asked = fork(), cli("--help")
    for done in (alone, asked):
        for word in (
            "run",
            "look",
            "scenes",
            "demos",
            "train",
            "evaluate",
            "export",
            "verify",
            "bench",
        ):
            assert word in done.out + done.err
        assert "Traceback" not in done.err
    assert asked.code == 0


# JSON -----------------------------------------------------------------------------------------


def test_json_is_one_object_and_nothing_else(fork, bundle, tmp_path):
    plain = box_urdf(tmp_path / "without_inertia.urdf", "0.04 0.06 0.05", inertia=False)
    grasp = ("evaluate", "grasp", "--sensing", "truth", "--workers", 0, "--json")
    # In a fresh interpreter: Bullet has a word to say when it is imported, and warns on standard
    # output about a file without inertia.
    done = cli(*grasp, "--scripted", "--objects", plain, "--episodes", 2, "--seed", 4)
    assert done.err == ""  # a pipe gets no progress bar either
    scripted = one_json(done)
    policy = one_json(fork(*grasp, "--bundle", bundle, "--objects", "primitives", "--episodes", 1))
    verified = one_json(fork("verify", bundle, "--json"))
    edge = one_json(fork("bench", "edge", "--bundle", bundle, "--calls", 100, "--json"))
    asked = (
        "protocol protocol_hash objects sensing physics subject episodes successes success_rate "
        "ci95 failures seed wall_s"
    )
    assert set(asked.split()) <= set(scripted)
    assert (scripted["subject"], scripted["episodes"], scripted["seed"]) == ("scripted", 2, 4)
    assert policy["subject"].startswith("bundle:untrained")
    assert verified["ok"] is True
    assert {"p50", "p99"} <= set(edge["policy_us"]) & set(edge["tick_us"])
    assert {"reference_policy_us", "reference_sb3_predict_us"} <= set(edge)


def test_for_people_there_is_a_list_and_no_json(fork):
    done = fork(
        "evaluate", "grasp", "--expert", "--objects", "primitives", "--episodes", 1,
        "--workers", 0,
    )  # fmt: skip
    assert done.code == 0
    assert "success_rate" in done.out
    with pytest.raises(ValueError):
        json.loads(done.out)


# Bad input ------------------------------------------------------------------------------------


def assert_one_line(done: Done, *words: str) -> None:
    assert done.code == 2, (done.code, done.err)
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("steadyhand: ")
    for word in words:
        assert word in lines[0], (word, lines[0])


GRASP = ("evaluate", "grasp", "--scripted", "--sensing", "truth", "--episodes", "2")


CASES = [
    ((*GRASP, "--protocol", "tripple"), ("protocol", "tripple", "single, kuka, clutter")),
    ((*GRASP, "--physics", "soft"), ("physics", "soft", "nominal or hard")),
    ((*GRASP[:3], "--sensing", "sonar"), ("sensing", "sonar", "camera or truth")),
    ((*GRASP, "--episods", "3"), ("--episods", "--episodes")),
    ((*GRASP, "--episodes", "0"), ("--episodes", "1")),
    ((*GRASP, "--episodes", "many"), ("--episodes", "integer")),
    ((*GRASP, "--expert"), ("--expert", "--scripted", "one of")),
    (("evaluate", "grasp", "--expert", "--sensing", "camera"), ("expert", "truth")),
    ((*GRASP, "--objects", "no/such/*.urdf"), ("no/such/*.urdf", "primitives")),
    (("evaluate", "grap"), ("grap",)),
    ((*GRASP, "--no-scorer", "--scorer", "x.onnx"), ("--scorer and --no-scorer",)),
    ((*GRASP, "--scorer", "no/scorer.onnx"), ("no/scorer.onnx", "No such file")),
    (("fly",), ("fly",)),
    (("run", "--n-objects", "21"), ("--n-objects", "20")),
    (("run", "--bundle", "no/bundle"), ("no/bundle", "No such file")),
    (("run", "--safety", "no/cell.yaml"), ("no/cell.yaml", "No such file")),
    (("loop", "--safety", "cel"), ("configs/safety: no configuration 'cel'", "default")),
    ((*GRASP, "--safety", "no/cell.yaml"), ("no/cell.yaml", "No such file")),
    (("evaluate", "grasp", "--bundle", "no/bundle"), ("no/bundle", "No such file")),
    (("evaluate", "grasp", "--policy", "no/run", "--sensing", "truth"), ("no/run",)),
    (("demos", "info", "no/demos"), ("no/demos",)),
    (("demos", "info", "no/demos", "--plot", "no/x.png"), (".svg", "no/x.png")),
    (("demos", "drop", "no/demos", "1"), ("no/demos",)),
    (("demos", "drop", "no/demos"), ("numbers", "--bad")),
    (("demos", "convert", "no/a", "no/b", "--format", "minari"), ("no/a", "no such file")),
    (("demos", "convert", "no/a", "no/b", "--format", "zarr"), ("lerobot, robomimic", "zarr")),
    (("demos", "convert", "no/a", "no/b"), ("--format",)),
    (("demos", "record", "--out", "no/a", "--policy", "x", "--bundle", "y"), ("--policy", "one")),
    (("demos", "record", "--out", "no/a", "--policy", "no/run"), ("no/run", "No such file")),
    (("demos", "record", "--out", "no/a", "--bundle", "no/bundle"), ("no/bundle", "No such")),
    (("demos", "record", "--out", "no/a", "--env", "CartPole-v1"), ("CartPole-v1", "--actor")),
    (("demos", "teleop", "--out", "no/a"), ("terminal", "--keys")),
    (("demos", "teleop", "--out", "no/a", "--keys", "no/keys"), ("no/keys", "No such file")),
    (("demos", "teleop", "--out", "no/a", "--gamepad", "no/js0"), ("no/js0", "No such file")),
    (("demos", "teleop", "--out", "no/a", "--gamepad", "x", "--keys", "y"), ("one of",)),
    (("export", "no/run", "--out", "no/bundle"), ("no/run", "network.pt")),
    (("look",), ("images", "--live-sim")),
    (("look", "no/a.png", "--live-sim"), ("images", "--live-sim")),
    (("look", "no/a.png"), ("no/a.png", "no such file")),
    (("look", "no/a.png", "--depth", "no/d.png"), ("1 images, 1 --depth and 0 --camera",)),
    (("look", *["no/a.png"] * 5), ("at most 4 views", "5")),
    (("look", "--live-sim", "--out", "no/look.bmp"), (".png", "look.bmp")),
    (("look", "--live-sim", "--objects", "no/*.urdf", "--out", "no/a.png"), ("no/*.urdf",)),
    (("scenes", "--out", "no/set", "--objects", "no/*.urdf"), ("no/*.urdf", "primitives")),
    (("bench", "perception", "--fp32", "no/fp32.onnx"), ("no/fp32.onnx", "no such file")),
    (("bench", "perception", "--bundle", "no/bundle"), ("no/bundle", "No such file")),
]


@pytest.mark.parametrize(("call", "words"), CASES, ids=[" ".join(c) for c, _ in CASES])
def test_bad_input_is_one_line_and_exit_code_2(fork, call, words):
    done = fork(*call)
    assert_one_line(done, *words)
    assert done.out == ""
    assert not (ROOT / "no").exists()


def test_bad_input_in_a_fresh_interpreter_is_one_line_too(corrupt):
    assert_one_line(cli("run", "--bundle", corrupt), "policy.onnx", "SHA-256")


def test_bad_settings_of_a_training_leave_no_folder(fork, tmp_path):
    out = tmp_path / "run"
    cases = [
        (("--set", "bc.roundz=3"), ("bc.roundz", "rounds")),
        (("--set", "bc.rounds=-3"), ("bc.rounds", "-3", "out of range")),
        (("--set", "bc.rounds=lots"), ("bc.rounds", "lots", "whole number")),
        (("--set", "bc.rounds"), ("bc.rounds",)),
        (("--set", "task.objects=test"), ("test objects",)),
        (("--budget", "huge"), ("budget", "quick", "full")),
        (("--budget", tmp_path / "none.yaml"), ("none.yaml",)),
    ]
    for verb in ("bc", "all"):
        for options, words in cases:
            done = fork("train", verb, "--out", out, *options)
            assert_one_line(done, *words)
            assert done.out == ""
    other = "detector.network.architecture=mobilenet_v3_large_320_fpn"
    assert_one_line(fork("train", "all", "--out", out, "--set", other), "a bundle needs slim")
    assert not out.exists()


def test_a_corrupt_bundle_is_refused_by_every_verb_that_reads_one(fork, corrupt, tmp_path):
    out = tmp_path / "out"
    for call in (
        ("run", "--sensing", "truth", "--out", out),
        ("bench", "edge"),
        ("bench", "perception"),
        ("look", "--live-sim", "--out", out / "x.png"),
        ("evaluate", "grasp", "--sensing", "truth", "--out", out / "x.jsonl"),
        ("evaluate", "perception"),
    ):
        done = fork(*call, "--bundle", corrupt)
        assert_one_line(done, "corrupt", "policy.onnx", "SHA-256")
        assert done.out == ""
    assert not out.exists()


def test_verify_says_what_is_wrong_in_its_list_and_in_one_line(fork, corrupt):
    told = fork("verify", corrupt)
    assert_one_line(told, "policy.onnx", "SHA-256")
    assert "FAIL" in told.out
    done = fork("verify", corrupt, "--json")
    assert_one_line(done, "policy.onnx", "SHA-256")
    assert json.loads(done.out)["ok"] is False
    assert_one_line(fork("verify", "no/bundle"), "no/bundle", "No such file")


def test_bad_objects_are_refused_before_anything_is_written(fork, bundle, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "broken.urdf").write_text("<robot")
    (tmp_path / "no_mesh.urdf").write_text(
        '<robot name="a"><link name="b"><collision><geometry><mesh filename="gone.obj"/>'
        "</geometry></collision></link></robot>"
    )
    box_urdf(tmp_path / "large.urdf", "0.2 0.2 0.2")
    box_urdf(tmp_path / "long.urdf", "0.5 0.05 0.05")
    for name, words in (
        ("broken", ("cannot load",)),
        ("no_mesh", ("cannot load",)),
        ("large", ("too large for the gripper",)),
        ("long", ("0.3 m",)),
    ):
        objects = ("--objects", tmp_path / f"{name}.urdf", "--out")
        for call in (
            ("run", "--bundle", bundle, "--sensing", "truth", *objects, out),
            (*GRASP, "--workers", "0", *objects, out / "x.jsonl"),
        ):
            done = fork(*call)
            assert_one_line(done, f"{name}.urdf", *words)
            assert done.out == ""
    assert not out.exists()


def test_an_error_in_a_worker_process_is_one_line_too(tmp_path):
    (tmp_path / "broken.urdf").write_text("<robot")
    objects = ("--objects", tmp_path / "broken.urdf")
    assert_one_line(cli(*GRASP, "--workers", 2, *objects), "broken.urdf", "cannot load")


def test_camera_sensing_without_a_detector_in_the_bundle_leaves_nothing(fork, bundle, tmp_path):
    done = fork("run", "--bundle", bundle, "--sensing", "camera", "--out", tmp_path / "out")
    assert_one_line(done, "detector")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_clear_line_and_no_half_of_a_file(bundle, tmp_path):
    """A disk that takes no more is played by a limit on the size of files."""
    out = tmp_path / "out"
    done = cli(
        "run", "--bundle", bundle, "--sensing", "truth", "--n-objects", 0, "--out", out,
        largest_file=4096,
    )  # fmt: skip
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert last.startswith("steadyhand: ")
    assert "report.html" in last
    assert "cannot be written" in last
    # The recording keeps what was finished; everything else is whole or not there.
    names = {p.name for p in out.iterdir()}
    assert names <= {"recording.mcap", "result.json"}
    json.loads((out / "result.json").read_text())


# An empty table -------------------------------------------------------------------------------


def check_empty_run(done: Done, out: Path) -> None:
    result = one_json(done)
    assert (result["objects"], result["cleared"], result["attempts"]) == (0, 0, 0)
    assert (result["success_rate"], result["cleared_rate"]) == (1.0, 1.0)
    assert result["picks"] == []
    written = json.loads((out / "result.json").read_text())
    assert written == {k: v for k, v in result.items() if k != "out"}
    assert (out / "report.html").stat().st_size > 1000
    assert (out / "recording.mcap").is_file()
    assert not [p for p in out.iterdir() if p.suffix in (".part", ".tmp")]


def test_an_empty_table_is_a_success_with_nothing_to_do(fork, bundle, tmp_path):
    out = tmp_path / "out"
    call = ("run", "--bundle", bundle, "--n-objects", 0, "--sensing", "truth", "--out", out)
    check_empty_run(fork(*call, "--json"), out)
    told = fork(*call)
    assert told.code == 0
    assert "nothing to do" in told.out


def test_the_shipped_bundle_has_nothing_to_do_either(tmp_path):
    out = tmp_path / "out"
    check_empty_run(cli("run", "--n-objects", 0, "--out", out, "--json"), out)


# Any environment --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train bc --env CartPole-v1 --actor a:b --out {out}", "action space must be a Box"),
        ("train bc --env Nowhere-v0 --actor a:b --out {out}", "--import names the package"),
        ("train ppo --env Test/Goal-v0 --import no_such --out {out}", "No module named 'no_such'"),
        ("train bc --env Test/Unbounded-v0 --import classic_envs --out {out}", "finite bounds"),
        ("train bc --env Test/DiscretePart-v0 --import classic_envs --out {out}", "mode is Discr"),
        ("train bc --env Pendulum-v1 --out {out}", "no demonstrations; give a set with --demos"),
        ("train bc --env Pendulum-v1 --demos {out} --out {out}", "is no demonstration set"),
        ("train bc --env Pendulum-v1 --demos x --actor a:b --out {out}", "not both"),
        ("train bc --env Steadyhand/GraspSingle-v0 --out {out}", "leave --env out"),
        ("train bc --env Pendulum-v1 --actor math:no --out {out}", "expected 'module:callable'"),
        ("train bc --env Pendulum-v1 --env-arg level=3 --out {out}", "unexpected keyword"),
        ("train bc --actor a:b --out {out}", "--actor goes with --env"),
        ("demos record --env Pendulum-v1 --out {out}", "needs an expert: --actor"),
        ("demos record --env Pendulum-v1 --actor a --workers 0 --out {out}", "module:callable"),
        ("evaluate policy --env Pendulum-v1", "give one of --bundle, --policy, --actor"),
        ("evaluate policy --env Pendulum-v1 --policy {out}", "no trained policy there"),
        ("evaluate policy --env Pendulum-v1 --bundle {bundle}", "was made for 244 observations"),
        (
            "evaluate policy --env Test/Goal-v0 --import classic_envs --env-arg nan_at=3 --actor "
            "classic_envs:GoalExpert --workers 0",
            "Test/Goal-v0: gave a reward of nan at step 3",
        ),
    ],
)
def test_an_environment_that_does_not_fit_is_one_line(fork, bundle, tmp_path, arguments, words):
    out = tmp_path / "run"
    done = fork(*arguments.format(out=out, bundle=bundle).split())
    assert done.code == 2, (done.code, done.err)
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("steadyhand: ")]
    assert len(lines) == 1 and words in lines[0], done.err
    assert "Traceback" not in done.err
    assert not out.exists() or arguments.startswith("demos")


def test_a_policy_is_measured_anywhere_on_clean_output(fork):
    where = ["--env", "Test/Goal-v0", "--import", "classic_envs", "--env-arg", "steps=25"]
    who = ["--actor", "classic_envs:GoalExpert", "--episodes", 8, "--workers", 0]
    result = one_json(fork("evaluate", "policy", *where, *who, "--json"))
    assert (result["episodes"], result["success_rate"]) == (8, 1.0)
    assert result["length"] == {"mean": 25.0, "min": 25, "max": 25}
    assert result["return_ci95"][0] <= result["mean_return"] <= result["return_ci95"][1] < 0
