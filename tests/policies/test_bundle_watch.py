"""A bundle that is changed while it runs, or signed by somebody else, is found out."""

from __future__ import annotations

import shutil

import pytest

from policies.bundle.format import Bundle, shipped
from policies.bundle.manifest import BundleError
from policies.bundle.signature import sign, signature_path
from policies.bundle.watch import BundleWatch


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "bundle"
    shutil.copytree(shipped(), root)
    return root


def test_a_whole_bundle_has_no_damage(copy):
    assert BundleWatch(Bundle.load(copy)).damage() is None


@pytest.mark.parametrize("file", ["models/policy.onnx", "limits.yaml", "manifest.json"])
def test_any_changed_byte_is_damage(copy, file):
    watch = BundleWatch(Bundle.load(copy))
    data = bytearray((copy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    damage = watch.damage()
    assert damage is not None
    assert file in damage
    data[len(data) // 2] ^= 1
    (copy / file).write_bytes(data)
    assert watch.damage() is None


def test_a_file_that_is_gone_is_damage(copy):
    watch = BundleWatch(Bundle.load(copy))
    (copy / "panda.urdf").unlink()
    assert "panda.urdf" in (watch.damage() or "")


def test_signatures(copy, tmp_path):
    key, other, short = (tmp_path / name for name in ("key", "other", "short"))
    key.write_bytes(bytes(range(32)))
    other.write_bytes(bytes(range(1, 33)))
    short.write_bytes(b"secret")
    bundle = Bundle.load(copy)
    with pytest.raises(BundleError, match="no signature"):
        BundleWatch(bundle, key)
    assert sign(copy, key) == signature_path(copy)
    watch = BundleWatch(bundle, key)
    assert watch.damage() is None
    with pytest.raises(BundleError, match="another key"):
        BundleWatch(bundle, other)
    with pytest.raises(BundleError, match="at least 32 bytes"):
        sign(copy, short)
    sign(copy, other)
    assert "another key" in (watch.damage() or "")
