"""detectron2 without its extension, and without detectron2 itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDE = """
import importlib.util, sys
class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "detectron2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hider())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "detectron2" else find(name, *rest)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("before", ["", HIDE], ids=["with", "without"])
def test_import_cups__is_silent(before: str) -> None:
    """Stage 1 works without detectron2; who needs it is told by `cups.model`."""
    result = run(before + "import cups, cups.taxonomy")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("code", ["import cups.model", "import cups; cups.load", "from cups import load"])
def test_use_of_the_network__without_detectron2_is_one_sentence(code: str) -> None:
    result = run(f"{HIDE}from cups.errors import run_main\ndef main():\n    {code}\nrun_main(main)\n")
    assert result.returncode == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: detectron2 is not installed")
    assert line.endswith("run `bash scripts/setup.sh`")


def test_import_cups_model__without_detectron2_is_import_and_user_error() -> None:
    code = HIDE + (
        "from cups.errors import UserError, run_main\n"
        "try:\n    import cups.model\nexcept ImportError as error:\n    assert isinstance(error, UserError)\n"
        "def main():\n    import cups.model\n"
        "run_main(main)\n"
    )
    result = run(code)
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: detectron2 is not installed")


def test_prepare__twice_gives_the_same_extension() -> None:
    from cups.detectron2_compat import prepare

    prepare()
    first = sys.modules["detectron2._C"]
    prepare()
    assert sys.modules["detectron2._C"] is first


def test_stub_extension__raises_a_clear_error_when_used() -> None:
    from cups.detectron2_compat import _MissingExtension

    stub = _MissingExtension("detectron2._C")
    with pytest.raises(RuntimeError, match=r"nms_rotated needs detectron2's C.. extension"):
        stub.nms_rotated()
    assert not hasattr(stub, "__path__")


def test_prepare__supplies_the_dropped_pillow_constant() -> None:
    from PIL import Image

    from cups.detectron2_compat import prepare

    prepare()
    assert getattr(Image, "LINEAR") == Image.Resampling.BILINEAR  # noqa: B009
