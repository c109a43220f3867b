"""Whether a bundle that runs is still the one that was loaded, asked again whenever one likes."""

from __future__ import annotations

from pathlib import Path

from policies.bundle.format import Bundle
from policies.bundle.manifest import NAME, BundleError, Manifest
from policies.bundle.reading import read_files
from policies.bundle.signature import check_signature


class BundleWatch:
    """Compares a bundle's folder with what was loaded from it.

    Args:
        bundle: what runs.
        key: of who signs bundles, its file; None asks for no signature.

    Raises:
        BundleError: the bundle is not signed with that key.
    """

    def __init__(self, bundle: Bundle, key: Path | None = None) -> None:
        self._root, self._manifest, self._key = bundle.root, bundle.manifest.to_bytes(), key
        if key is not None:
            check_signature(bundle.root, self._manifest, key)

    def damage(self) -> str | None:
        """What is wrong with the folder now, None where nothing is; a few milliseconds."""
        try:
            data = (self._root / NAME).read_bytes()
            if data != self._manifest:
                return f"{self._root}/{NAME}: is another one than was loaded"
            read_files(self._root, Manifest.from_bytes(data, f"{self._root}/{NAME}"))
            if self._key is not None:
                check_signature(self._root, data, self._key)
        except (OSError, BundleError) as error:
            return str(error)
        return None
