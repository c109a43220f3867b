"""Ways in which a bundle is damaged or attacked, each drawn at random, to show that none passes.

The first half changes files and leaves the digests as they were. The second half is what somebody
does who can write: the digests are made anew, so that only what a bundle may hold decides.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from policies.bundle.manifest import NAME, Manifest, _canonical, _self_digest, entry_of

Rng = np.random.Generator
Attack = Callable[[Path, Path, Rng], None]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Registers a way: called with the bundle's copy, a file outside of it, and a generator."""
    ATTACKS[function.__name__] = function
    return function


def put(file: Path, data: bytes) -> None:
    """Replace a file without touching what it may be linked to."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file())


def _any(root: Path, rng: Rng) -> tuple[Path, bytes]:
    files = _files(root)
    file = files[int(rng.integers(len(files)))]
    return file, file.read_bytes()


def _pick(rng: Rng, choices: list[Any]) -> Any:
    return choices[int(rng.integers(len(choices)))]


def sign(root: Path, change: Callable[[dict[str, Any]], object] | None = None) -> None:
    """Write a manifest that agrees with what is there now, changed at will."""
    content = json.loads((root / NAME).read_bytes())
    content.pop("self_sha256", None)
    for path in content["files"]:
        entry = entry_of((root / path).read_bytes())
        content["files"][path] = {"size": entry.size, "sha256": entry.sha256}
    if change is not None:
        change(content)
    put(root / NAME, _canonical({**content, "self_sha256": _self_digest(content)}))


@attack
def bit(root: Path, outside: Path, rng: Rng) -> None:
    """One bit flipped."""
    file, data = _any(root, rng)
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    put(file, bytes(changed))


@attack
def noise(root: Path, outside: Path, rng: Rng) -> None:
    """A stretch of random bytes."""
    file, data = _any(root, rng)
    size = int(rng.integers(1, min(4096, len(data)) + 1))
    at = int(rng.integers(len(data) - size + 1))
    fresh = bytes(b ^ int(x) for b, x in zip(data[at : at + size],
                  rng.integers(1, 256, size), strict=True))  # fmt: skip
    put(file, data[:at] + fresh + data[at + size :])


@attack
def inserted(root: Path, outside: Path, rng: Rng) -> None:
    """Bytes in between, or one left out."""
    file, data = _any(root, rng)
    at = int(rng.integers(len(data)))
    put(file, data[:at] + (rng.bytes(7) + data[at:] if rng.random() < 0.5 else data[at + 1 :]))


@attack
def cut(root: Path, outside: Path, rng: Rng) -> None:
    """A file that ends early, perhaps at once."""
    file, data = _any(root, rng)
    put(file, data[: int(rng.integers(len(data)))])


@attack
def grown(root: Path, outside: Path, rng: Rng) -> None:
    """A file that goes on."""
    file, data = _any(root, rng)
    put(file, data + rng.bytes(int(rng.integers(1, 5000))))


@attack
def missing(root: Path, outside: Path, rng: Rng) -> None:
    """A file that is gone."""
    _any(root, rng)[0].unlink()


@attack
def swapped(root: Path, outside: Path, rng: Rng) -> None:
    """Two files that have changed places."""
    files = [f for f in _files(root) if f.name != NAME]
    contents = {f: f.read_bytes() for f in files}
    one, two = rng.permutation(len(files))[:2]
    put(files[one], contents[files[two]])
    put(files[two], contents[files[one]])


@attack
def renamed(root: Path, outside: Path, rng: Rng) -> None:
    """A file under another name."""
    file, _ = _any(root, rng)
    file.rename(file.with_name(_pick(rng, ["x.bin", file.name + "~", file.name.upper() + "_"])))


@attack
def added(root: Path, outside: Path, rng: Rng) -> None:
    """A file or a folder that is not listed."""
    if rng.random() < 0.5:
        (root / _pick(rng, ["sitecustomize.py", ".hidden", "models/more.onnx"])).write_bytes(b"x")
    else:
        (root / _pick(rng, ["more", "models/deep"])).mkdir()


@attack
def linked(root: Path, outside: Path, rng: Rng) -> None:
    """A link in place of a file: to the same content elsewhere, to a device, to nothing."""
    file, data = _any(root, rng)
    target = outside.with_name("same")
    target.write_bytes(data)
    file.unlink()
    file.symlink_to(_pick(rng, [target, Path("/dev/zero"), Path("/dev/null"), Path("nowhere")]))


@attack
def linked_folder(root: Path, outside: Path, rng: Rng) -> None:
    """The models' folder as a link to the same files elsewhere."""
    shutil.move(root / "models", outside.with_name("models"))
    (root / "models").symlink_to(outside.with_name("models"))


@attack
def odd_file(root: Path, outside: Path, rng: Rng) -> None:
    """A pipe, which would never end, or a folder in place of a file."""
    file, _ = _any(root, rng)
    file.unlink()
    if rng.random() < 0.5:
        os.mkfifo(file)
    else:
        file.mkdir()


@attack
def zipped(root: Path, outside: Path, rng: Rng) -> None:
    """An archive where a folder should be, with members that would climb out of it."""
    with zipfile.ZipFile(outside.with_name("bundle.zip"), "w") as archive:
        for file in _files(root):
            archive.writestr("../../" + file.name, file.read_bytes()[:100])
    shutil.rmtree(root)
    outside.with_name("bundle.zip").rename(root)


@attack
def manifest_text(root: Path, outside: Path, rng: Rng) -> None:
    """A manifest that is no manifest."""
    deep = b'{"a":' * 50_000
    text = (root / NAME).read_bytes()
    twice = text.replace(b'"kind"', b'"kind": "steadyhand-bundle", "kind"', 1)
    odd = [deep, b"[" * 100_000, twice, b"null", b"\xff\xfe", b"NaN", b"9" * 10_000, b"{}",
           text.replace(b"\n", b"\r\n"), b"\x00" * 64, text * 2]  # fmt: skip
    put(root / NAME, _pick(rng, odd))


@attack
def manifest_keys(root: Path, outside: Path, rng: Rng) -> None:
    """Keys renamed or left out, values of another kind, with a digest that agrees."""

    def change(content: dict[str, Any]) -> None:
        where = _pick(rng, [content, content["files"], _pick(rng, list(content["files"].values())),
                            content["roles"]])  # fmt: skip
        optional = ("detector", "scorer", "proofs")
        key = _pick(rng, [k for k in where if k not in optional])
        value = where.pop(key)
        # An empty origin is a sound one.
        if rng.random() < 0.5 or key == "created_from":
            where[_pick(rng, [key + "_", key.upper() + "x", "", "\u202e" + key])] = value
        elif rng.random() < 0.8:
            where[key] = _pick(rng, [None, [], {}, -1, 1e9, True, "x" * 1000, [value]])

    sign(root, change)


@attack
def manifest_paths(root: Path, outside: Path, rng: Rng) -> None:
    """A listed path that leads out, with the right digest of what lies there."""
    entry = entry_of(outside.read_bytes())
    up = os.path.relpath(outside, root)
    path = _pick(rng, [up, str(outside), f"models/../{up}", f"./{up}", up.replace("/", "\\"),
                       f"{up}\x00.onnx", "~/x", "models//policy.onnx", "models/", "", ".", "..",
                       "C:\\x", "\uff0e\uff0e/x", f"models/{'a/' * 200}x", NAME])  # fmt: skip

    def change(content: dict[str, Any]) -> None:
        content["files"][path] = {"size": entry.size, "sha256": entry.sha256}
        if rng.random() < 0.5:
            content["roles"]["scorer"] = path

    sign(root, change)


@attack
def manifest_roles(root: Path, outside: Path, rng: Rng) -> None:
    """Roles played by files that cannot."""

    def change(content: dict[str, Any]) -> None:
        roles = content["roles"]
        role, wrong = _pick(rng, [
            ("policy", "CARD.md"), ("policy", "models/none.onnx"), ("brain", roles["policy"]),
            ("policy_fp32", "reference.npz"), ("detector", "card.json"), ("scorer", ["x"]),
            ("scorer", "limits.yaml"), ("policy", None), ("detector", "../x.onnx"),
        ])  # fmt: skip
        roles[role] = wrong

    sign(root, change)


@attack
def exchanged_models(root: Path, outside: Path, rng: Rng) -> None:
    """Sound models in each other's roles."""

    def change(content: dict[str, Any]) -> None:
        roles = content["roles"]
        models = [r for r in ("policy", "policy_fp32", "detector", "scorer") if r in roles]
        one, two = (models[i] for i in rng.permutation(len(models))[:2])
        roles[one], roles[two] = roles[two], roles[one]

    sign(root, change)


@attack
def archive(root: Path, outside: Path, rng: Rng) -> None:
    """A reference that unfolds, climbs, pickles, or says more than it holds."""
    kind = _pick(rng, ["bomb", "climb", "pickle", "header", "twice", "packed", "many", "text"])
    stream = io.BytesIO()
    zeros = _npy(np.zeros(4, np.float32))
    packing = zipfile.ZIP_LZMA if kind == "packed" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(stream, "w", packing) as out:
        if kind == "bomb":
            out.writestr("policy|in|observation.npy", bytes(65_000_000))
        elif kind == "climb":
            out.writestr(_pick(rng, ["../x.npy", "/tmp/x.npy", "a/../../x.npy"]), zeros)
        elif kind == "pickle":
            out.writestr("policy|in|observation.npy", _npy(np.array([os.getcwd], object)))
        elif kind == "header":
            out.writestr("a.npy", _npy(np.zeros((2, 3), np.float32)).replace(b"(2, 3)", b"(9**9)"))
            out.writestr("b.npy", zeros.replace(b"(4,), }", b"(400000000,), }"))
        elif kind == "many":
            for i in range(300):
                out.writestr(f"{i}.npy", zeros)
        elif kind == "text":
            out.writestr("x.npy", _npy(np.array(["text"])))
        else:
            out.writestr("x.npy", zeros)
    data = stream.getvalue()
    if kind == "twice":
        data = data[: len(data) // 2] + data
        data = data.replace(b"x.npy", b"y|npy")
    put(root / "reference.npz", data)
    sign(root)


def _npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


@attack
def other_outputs(root: Path, outside: Path, rng: Rng) -> None:
    """Reference outputs that the models do not give."""
    from policies.bundle.reading import array_bytes, read_arrays

    arrays = read_arrays((root / "reference.npz").read_bytes(), "reference")
    key = _pick(rng, [k for k in arrays if k.endswith("/out/action")])
    how = int(rng.integers(4))
    if how == 0:
        arrays[key] = -arrays[key]
    elif how == 1:
        arrays[key] = arrays[key][:-1]
    elif how == 2:
        del arrays[key]
    else:
        arrays[key] = arrays[key][:, :1].astype(np.float64)
    put(root / "reference.npz", array_bytes(arrays))
    sign(root)


@attack
def texts(root: Path, outside: Path, rng: Rng) -> None:
    """Cards and limits that run code, unfold, or are something else."""
    run = b"!!python/object/apply:os.system ['touch %s']\n" % bytes(outside.with_name("ran"))
    laughs = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (c, c, b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 110)
    )
    broken = [b"", b"null", b"[1]", b'{"a":' * 5000, b"\xff", run, b"{"]
    names = ["card.json", "limits.yaml"] if (root / "limits.yaml").exists() else ["card.json"]
    name = _pick(rng, names)
    put(root / name, _pick(rng, [*broken, laughs]))
    sign(root)


@attack
def models(root: Path, outside: Path, rng: Rng) -> None:
    """A model with data outside, with operators of its own, or that unfolds to gigabytes."""
    from policies.bundle.forgery import forged

    manifest = Manifest.from_bytes((root / NAME).read_bytes(), NAME)
    role = _pick(rng, [r for r in ("policy", "policy_fp32", "scorer") if r in manifest.roles])
    file = root / manifest.roles[role]
    put(file, forged(file.read_bytes(), outside, rng))
    sign(root)
