"""The loader: defaults, files and overrides in; a checked dataclass or one clear line out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from configs.load import as_dict, bounded, completed, digest, find, load
from robot.errors import ConfigError, SteadyhandError


@dataclass(frozen=True)
class Servo:
    gain: float = bounded(2.0, 0.0, 10.0)
    ticks: int = bounded(12, 1, None)
    mode: Literal["soft", "stiff"] = "soft"


@dataclass(frozen=True, slots=True)
class Camera:
    position_m: tuple[float, float, float] = (0.0, 0.0, 1.0)
    names: tuple[str, ...] = ("overhead",)
    noise_m: tuple[float, float] = bounded((0.001, 0.003), 0.0, 0.1)


@dataclass(frozen=True)
class Config:
    name: str = "pick"
    seed: int | None = None
    gui: bool = False
    rate: int | float = 20
    out: Path = Path("runs")
    servo: Servo = Servo(gain=3.0)
    camera: Camera = field(default_factory=Camera)
    spare: Servo | None = None
    masses_kg: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == "both" and self.gui:
            raise SteadyhandError("name 'both'\nwants no window")


def from_text(tmp_path: Path, text: str, *overrides: str) -> Config:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    return load(Config, file, overrides)


def error_of(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_text(tmp_path, text, *overrides)
    message = str(caught.value).replace(str(tmp_path), "DIR")
    assert "\n" not in message
    return message


def test_without_a_file_the_defaults_stand():
    assert load(Config) == Config()


@pytest.mark.parametrize("text", ["", "# nothing\n", "servo:\n  # gain: 1\n", "{}"])
def test_an_empty_file_or_section_changes_nothing(tmp_path, text):
    assert from_text(tmp_path, text) == Config()


def test_yaml_replaces_only_what_it_names(tmp_path):
    cfg = from_text(tmp_path, "servo:\n  ticks: 3\ncamera: {position_m: [1, 2, 3.5]}\n")
    # The gain stays the 3.0 of Config's own default, not the 2.0 of Servo's.
    assert cfg.servo == Servo(gain=3.0, ticks=3)
    assert cfg.camera.position_m == (1.0, 2.0, 3.5)
    assert all(type(x) is float for x in cfg.camera.position_m)
    assert cfg.name == "pick"


def test_overrides_come_after_the_file_and_the_last_one_wins(tmp_path):
    cfg = from_text(tmp_path, "seed: 1\n", "seed=2", "servo.gain=4", "seed=3", "spare.ticks=7")
    assert (cfg.seed, cfg.servo.gain, cfg.spare) == (3, 4.0, Servo(ticks=7))


@pytest.mark.parametrize(
    ("override", "field_name", "value"),
    [
        ("name=*.urdf", "name", "*.urdf"),
        ("name=#5", "name", "#5"),
        ("name=a: b", "name", "a: b"),
        ("name='7'", "name", "7"),
        ("name=no", "name", "no"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ("name=x=y", "name", "x=y"),
        ("seed=null", "seed", None),
        ("seed=", "seed", None),
        ("seed=1e3", "seed", 1000),
        ("gui=true", "gui", True),
        ("rate=2", "rate", 2),
        ("rate=2.5", "rate", 2.5),
        ("servo.gain=1e-3", "servo.gain", 0.001),
        ("servo={gain: 1}", "servo", Servo(gain=1.0)),
        ("out=~/x", "out", Path("~/x").expanduser()),
        ("camera.names=[a, b]", "camera.names", ("a", "b")),
        ("masses_kg.duck=1", "masses_kg", {"duck": 1.0}),
    ],
)
def test_override_values(override, field_name, value):
    got: Any = load(Config, overrides=[override])
    for name in field_name.split("."):
        got = getattr(got, name)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: x", "DIR/c.yaml:1: nmae: unknown key (did you mean name?)"),
        ("\nservo:\n  gian: 1", "DIR/c.yaml:3: servo.gian: unknown key (did you mean gain?)"),
        ("gain: 1", "DIR/c.yaml:1: gain: unknown key (did you mean servo.gain?)"),
        ("servo: {gain: 11}", "DIR/c.yaml:1: servo.gain: 11 is out of range: 0 to 10"),
        ("servo: {ticks: 0}", "DIR/c.yaml:1: servo.ticks: 0 is out of range: at least 1"),
        ("servo: {gain: .nan}", "servo.gain: expected a finite number, got NaN"),
        ("servo: {gain: .inf}", "servo.gain: expected a finite number"),
        ("servo: {gain: yes}", "servo.gain: expected a finite number, got 'yes'"),
        ("servo: {gain: true}", "servo.gain: expected a finite number, got true"),
        ("servo: {ticks: 1.5}", "servo.ticks: expected a whole number, got 1.5"),
        ("servo: {mode: sof}", "servo.mode: got 'sof' (did you mean soft?); choose soft, stiff"),
        ("servo: 3", "DIR/c.yaml:1: servo: expected a section with keys, got 3"),
        ("name: 3", "name: expected text, got 3 (put text in quotes)"),
        ("gui: 1", "gui: expected true or false, got 1"),
        ("out: ''", "out: expected a path, got ''"),
        ("seed: x", "seed: expected a whole number, got 'x'"),
        ("rate: x", "rate: expected a whole number or a finite number, got 'x'"),
        ("camera: {position_m: [1, 2]}", "expected a list of 3 (a finite number, a finite number"),
        ("camera: {position_m: 1}", "camera.position_m: expected a list of 3"),
        (
            "camera:\n  position_m:\n  - 1\n  - 2\n  - x",
            "DIR/c.yaml:5: camera.position_m[2]: expected a finite number, got 'x'",
        ),
        ("camera: {noise_m: [0, 0.2]}", "camera.noise_m[1]: 0.2 is out of range: 0 to 0.1"),
        ("masses_kg: {duck: x}", "masses_kg.duck: expected a finite number, got 'x'"),
        ("name: both\ngui: true", "DIR/c.yaml: name 'both' wants no window"),
        ("seed: 1\nseed: 2", "DIR/c.yaml:2: seed: the key stands here a second time"),
        ("a: [1", "DIR/c.yaml:1: not valid YAML: expected ',' or ']'"),
        ("seed: 1\n  name: x", "DIR/c.yaml:2: not valid YAML: mapping values are not allowed"),
        ("seed: 1\nname: '\x07'", "DIR/c.yaml:2: not valid YAML: "),
        ("seed: !!python/object:os.x {}", "DIR/c.yaml:1: "),
        ("name: !boom x", "DIR/c.yaml:1: not valid YAML: could not determine a constructor"),
        ("seed: !!int abc", "DIR/c.yaml:1: seed: "),
        ("camera: &a [*a]", "DIR/c.yaml:1: camera[0]: an alias that holds itself"),
        ("[1]: 2", "DIR/c.yaml:1: a key must be plain text"),
        ("- 1", "DIR/c.yaml: expected keys and values, got a list"),
        ("hello", "DIR/c.yaml: expected keys and values, got a single value: 'hello'"),
        ("a: 1\n---\nb: 2", "DIR/c.yaml:2: not valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path, text, message):
    assert message in error_of(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override 'seed': expected KEY=VALUE"),
        ("=1", "override '=1': expected KEY=VALUE"),
        ("servo..gain=1", "expected KEY=VALUE or SECTION.KEY=VALUE"),
        ("servo.gain=99", "override 'servo.gain=99': servo.gain: 99 is out of range: 0 to 10"),
        ("servo.gian=1", "override 'servo.gian=1': servo.gian: unknown key (did you mean gain?)"),
        ("seed.x=1", "override 'seed.x=1': seed is 5, not a section"),
        ("camera.names=[a", "override 'camera.names=[a':1: not valid YAML"),
    ],
)
def test_what_is_wrong_in_an_override_is_named(tmp_path, override, message):
    assert message in error_of(tmp_path, "seed: 5\nservo: {gain: 1}", override)


def test_an_override_of_a_whole_section_hides_the_lines_of_the_file(tmp_path):
    message = error_of(tmp_path, "servo:\n  gain: 1\n", "servo={gain: 20}")
    assert message == "override 'servo={gain: 20}': servo.gain: 20 is out of range: 0 to 10"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"name: \xff\xfe")
    for name, words in (("none.yaml", "No such file"), ("bytes.yaml", "not UTF-8"), (".", "Is a")):
        with pytest.raises(ConfigError, match=words):
            load(Config, tmp_path / name)


def test_a_field_without_a_default_must_be_given(tmp_path):
    @dataclass(frozen=True)
    class Needs:
        urdf: Path

    assert load(Needs, overrides=["urdf=a.urdf"]) == Needs(Path("a.urdf"))
    with pytest.raises(ConfigError, match=r"Needs: urdf: missing.*expected a path"):
        load(Needs)


def test_a_default_out_of_its_own_bounds_is_refused():
    with pytest.raises(ConfigError, match="default 3 is out of range: at most 2"):
        bounded(3, None, 2)


def test_a_type_the_loader_cannot_read_is_a_programming_error():
    @dataclass(frozen=True)
    class Odd:
        x: complex = 0j

    with pytest.raises(TypeError, match="complex"):
        load(Odd, overrides=["x=1"])
    with pytest.raises(TypeError, match="dataclass"):
        load(dict)


def test_what_a_config_lacked_once_is_at_its_default():
    config = load(Config, overrides=["servo.gain=3.0"])
    known = as_dict(config)
    del known["servo"]["ticks"], known["rate"]
    assert completed(known, Config()) == as_dict(config)
    assert "rate" not in known
    # What is no longer a setting stays, so that such a config equals no other.
    assert completed({**known, "gone": 1}, Config()) == {**as_dict(config), "gone": 1}


def test_digest_follows_content_only():
    base = Config()
    assert digest(base) == digest(load(Config)) == digest(replace(base, rate=20.0))
    assert len(digest(base)) == 12
    assert int(digest(base), 16) >= 0
    assert digest(base) != digest(replace(base, servo=Servo(gain=3.0, ticks=13)))
    assert digest(base) != digest(replace(base, gui=True))


def test_find_names_the_choices():
    root = find.__globals__["__file__"]
    shipped = sorted(Path(root).parent.glob("*/*.yaml"))
    for file in shipped:
        assert find(file.parent.name, file.stem) == file
    with pytest.raises(ConfigError, match="no folder 'protcol'"):
        find("protcol", "single")
    if shipped:
        room = shipped[0].parent.name
        for name in ("nothing-like-it", "../load", ""):
            with pytest.raises(ConfigError, match=f"configs/{room}: .*choose .*{shipped[0].stem}"):
                find(room, name)


finite = st.floats(0, 10)
servos = st.builds(
    Servo, gain=finite, ticks=st.integers(1, 10**6), mode=st.sampled_from(["soft", "stiff"])
)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)
some_configs = st.builds(
    Config,
    name=words.filter(lambda text: text != "both"),
    seed=st.none() | st.integers(),
    gui=st.booleans(),
    rate=st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    out=st.sampled_from([Path("a/b"), Path("/x y/z")]),
    servo=servos,
    camera=st.builds(Camera, position_m=st.tuples(finite, finite, finite)),
    spare=st.none() | servos,
    masses_kg=st.dictionaries(words, st.floats(0, 1), max_size=3),
)


@given(some_configs)
def test_what_is_written_reads_back_the_same(tmp_path_factory, cfg):
    file = tmp_path_factory.mktemp("c") / "c.yaml"
    file.write_text(yaml.safe_dump(as_dict(cfg), allow_unicode=True), encoding="utf-8")
    back = load(Config, file)
    assert back == cfg
    assert digest(back) == digest(cfg)
    assert all(type(x) is float for x in back.camera.position_m)


@given(st.floats() | st.integers(-20, 20))
def test_a_number_passes_exactly_when_it_is_within_its_bounds(value):
    def read():
        return load(Config, overrides=[f"servo.gain={str(value).replace('inf', '.inf')}"])

    if 0 <= value <= 10:
        assert read().servo.gain == value
    else:
        with pytest.raises(ConfigError, match=r"servo\.gain"):
            read()


@given(st.text() | st.from_regex(r"[\[\]{}:,&*!|>'\"%@a-c\n -]{0,12}", fullmatch=True))
def test_no_text_breaks_the_loader(tmp_path_factory, text):
    """Any file and any override give a configuration or a ConfigError of one line."""
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(text.encode("utf-8", "replace"))
    for path, overrides in ((file, []), (None, [text]), (None, [f"name={text}"])):
        try:
            assert isinstance(load(Config, path, overrides), Config)
        except ConfigError as error:
            assert len(str(error).splitlines()) == 1
