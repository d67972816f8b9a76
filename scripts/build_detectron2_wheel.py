#!/usr/bin/env python3
"""Build a wheel of detectron2's Python modules from a source archive, without compiling anything.

None of the operations this project uses needs detectron2's C++ extension (RoIAlign and NMS come from
torchvision), so only ``*.py`` files of the packages are taken. ``cups/detectron2_compat.py`` supplies the
stub of the extension at import time.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

WHEEL = "Wheel-Version: 1.0\nGenerator: cups\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
METADATA = (
    "Metadata-Version: 2.1\nName: detectron2\nVersion: {version}\nLicense: Apache-2.0\n"
    "Summary: Python modules of detectron2, without its C++ extension\n"
)


def python_modules(archive: Path) -> dict[str, bytes]:
    """Return the archive's package files, {path inside the wheel: content}.

    The model zoo's configs are left out: this project ships its own.
    """
    modules: dict[str, bytes] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or inside.suffix != ".py" or inside.parts[0] != "detectron2":
                continue
            handle = tar.extractfile(member)
            assert handle is not None
            modules[str(inside)] = handle.read()
    return modules


def write_wheel(modules: dict[str, bytes], version: str, output: Path) -> Path:
    """Write ``detectron2-{version}-py3-none-any.whl`` into ``output`` and return its path."""
    info = f"detectron2-{version}.dist-info"
    files = {
        **modules,
        f"{info}/METADATA": METADATA.format(version=version).encode(),
        f"{info}/WHEEL": WHEEL.encode(),
    }
    record = []
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"detectron2-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(content)}")
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return path


def main() -> int:
    """Check the archive and build the wheel."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("archive", type=Path, help="source archive (.tar.gz)")
    parser.add_argument("--sha256", required=True, help="expected checksum of the archive")
    parser.add_argument("--version", default="0.6", help="version written into the wheel")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder of the wheel")
    args = parser.parse_args()
    digest = hashlib.sha256(args.archive.read_bytes()).hexdigest()
    if digest != args.sha256:
        print(f"{args.archive}: sha256 is {digest}, not {args.sha256}; download it again", file=sys.stderr)
        return 2
    modules = python_modules(args.archive)
    if "detectron2/__init__.py" not in modules:
        print(f"{args.archive}: holds no detectron2 package; download it again", file=sys.stderr)
        return 2
    print(write_wheel(modules, args.version, args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
