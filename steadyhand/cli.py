"""The command line: collects the verbs, and turns errors into one line and exit code 2."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from robot.errors import SteadyhandError
from steadyhand.console import set_up_logging, stdout_for_results

# Typer brings its own copy of click from 0.26 on; this is the base of its errors in either case.
_UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

#: What a shell says of a process that Ctrl-C ended, and what we say.
INTERRUPTED, KEPT = 130, "interrupted; finished work is kept"

app = typer.Typer(
    name="steadyhand",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From demonstrations to a grasp policy that runs safely beside the robot.",
)
demos_app = typer.Typer(no_args_is_help=True, help="Demonstrations: record, convert, look.")
train_app = typer.Typer(no_args_is_help=True, help="Train one link of the chain, or all of it.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Measure, with intervals.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed.")
app.add_typer(demos_app, name="demos")
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
runs_app = typer.Typer(no_args_is_help=True, help="Look at trained runs.")
app.add_typer(bench_app, name="bench")
app.add_typer(runs_app, name="runs")
robot_app = typer.Typer(no_args_is_help=True, help="Arms: what they are made of, what lacks.")
app.add_typer(robot_app, name="robot")
topic_app = typer.Typer(no_args_is_help=True, help="What a loop or ROS 2 over DDS says.")
app.add_typer(topic_app, name="topic")


def _register() -> None:
    from steadyhand import (
        adapt,
        bench,
        bench_planning,
        calibrate,
        canary,
        compress,
        demos,
        drift,
        evaluate,
        export,
        faults,
        look,
        loop,
        replay,
        robots,
        run,
        runs,
        scenes,
        teleop,
        topic,
        train,
        verify,
    )

    app.command("run")(run.run)
    app.command("look")(look.look)
    app.command("calibrate")(calibrate.calibrate)
    app.command("loop")(loop.loop)
    app.command("replay")(replay.replay)
    topic_app.command("list")(topic.list_)
    topic_app.command("echo")(topic.echo)
    topic_app.command("hz")(topic.hz)
    app.command("scenes")(scenes.scenes)
    app.command("export")(export.export)
    app.command("verify")(verify.verify)
    app.command("compress")(compress.compress)
    app.command("canary")(canary.canary)
    app.command("drift")(drift.drift)
    app.command("faults")(faults.faults)
    app.command("soak")(faults.soak)
    app.command("estop")(faults.estop)
    demos_app.command("record")(demos.record)
    demos_app.command("teleop")(teleop.teleop)
    demos_app.command("info")(demos.info)
    demos_app.command("convert")(demos.convert)
    demos_app.command("drop")(demos.drop)
    train_app.command("detector")(train.detector)
    train_app.command("adapt")(adapt.adapt)
    train_app.command("scorer")(train.scorer)
    train_app.command("bc")(train.bc)
    train_app.command("ppo")(train.ppo)
    train_app.command("all")(train.everything)
    evaluate_app.command("grasp")(evaluate.grasp)
    evaluate_app.command("policy")(evaluate.policy)
    evaluate_app.command("perception")(evaluate.perception)
    runs_app.command("list")(runs.list_)
    runs_app.command("compare")(runs.compare)
    robot_app.command("info")(robots.info)
    robot_app.command("check")(robots.check)
    robot_app.command("weigh")(robots.weigh)
    runs_app.command("plot")(runs.plot)
    bench_app.command("env")(bench.env)
    bench_app.command("edge")(bench.edge)
    bench_app.command("perception")(bench.perception)
    bench_app.command("safety")(bench.safety)
    bench_app.command("planning")(bench_planning.planning)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; never returns."""
    set_up_logging()
    # Where the installed command runs, a user's own module beside it is not found otherwise.
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    _register()
    try:
        with stdout_for_results():
            code = int(app(args=arguments, standalone_mode=False) or 0)
        if code == INTERRUPTED:  # some versions of Typer turn Ctrl-C into this instead of raising
            _say(KEPT)
        sys.exit(code)
    except SteadyhandError as error:
        _say(str(error))
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        _say(KEPT)
        sys.exit(INTERRUPTED)
    except _UsageError as error:
        _say(f"{error.format_message()} (see: steadyhand --help)")
        sys.exit(2)
    except ModuleNotFoundError as error:
        _say(_missing(error))
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(f"{where}{os.strerror(error.errno) if error.errno else error}")
        sys.exit(2)


_TRAIN = {
    "torch",
    "torchvision",
    "stable_baselines3",
    "onnx",
    "pyarrow",
    "h5py",
    "faster_coco_eval",
}


def _missing(error: ModuleNotFoundError) -> str:
    name = (error.name or "").split(".")[0]
    if name in _TRAIN:
        return f"this verb needs {name}: pip install 'steadyhand[train]'"
    return f"the package {name!r} is missing: pip install steadyhand"


def _say(text: str) -> None:
    print(f"steadyhand: {' '.join(text.split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
