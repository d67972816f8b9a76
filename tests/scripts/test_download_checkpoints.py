"""The download script against a local server: nothing here leaves this machine."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from cups.io.weights import weight_files, weight_table

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "download_checkpoints.sh"
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


class Handler(SimpleHTTPRequestHandler):
    """Serves files, whole or from where the client stopped."""

    ranges: list[str | None]
    continues = True

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.ranges.append(wanted)
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(wanted[len("bytes=") : -1]) if wanted and self.continues else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, type[Handler]]]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "net.pth").write_bytes(CONTENT)
    handler = type("Fresh", (Handler,), {"ranges": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "www")))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}", handler
    http.shutdown()
    http.server_close()


def entry(path: str, url: str | None, sha256: str | None = None, **more: object) -> dict[str, object]:
    file = {"path": path, "url": url, "sha256": sha256}
    return {"files": [file], "source": "https://example.org/page", **more}


def download(root: Path, table: dict[str, object], *flags: str) -> subprocess.CompletedProcess[str]:
    (root / "weights.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    command = ["bash", str(SCRIPT), "--root", str(root), "--table", str(root / "weights.yaml"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_download__fetches_once_and_explains_the_rest(
    tmp_path: Path, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    table = {
        "net": entry("a/b/net.pth", f"{url}/net.pth", SHA256),
        "gated": entry("gated.pth", None, how="accept the licence"),
        "spare": entry("spare.pth", f"{url}/net.pth", optional=True),
    }
    run = download(tmp_path, table)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "a" / "b" / "net.pth").read_bytes() == CONTENT
    assert "gated: by hand, to gated.pth — https://example.org/page: accept the licence" in run.stdout
    assert not (tmp_path / "spare.pth").exists() and not list(tmp_path.rglob("*.part"))
    again = download(tmp_path, table, "--only", "net", "spare")
    assert again.returncode == 0 and "net: a/b/net.pth is there" in again.stdout
    assert (tmp_path / "spare.pth").is_file() and len(handler.ranges) == 2


@pytest.mark.parametrize("continues", [True, False])
def test_download__goes_on_after_a_kill(
    tmp_path: Path, server: tuple[str, type[Handler]], continues: bool
) -> None:
    url, handler = server
    handler.continues = continues
    (tmp_path / "net.pth.part").write_bytes(CONTENT[:1000])
    run = download(tmp_path, {"net": entry("net.pth", f"{url}/net.pth", SHA256)})
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert handler.ranges == (["bytes=1000-"] if continues else ["bytes=1000-", None])


def test_download__bad_checksum_and_missing_page(tmp_path: Path, server: tuple[str, type[Handler]]) -> None:
    url, _ = server
    table = {
        "gone": entry("gone.pth", f"{url}/gone.pth"),
        "forged": entry("forged.pth", f"{url}/net.pth", "0" * 64),
        "net": entry("net.pth", f"{url}/net.pth", SHA256),
    }
    run = download(tmp_path, table)
    assert run.returncode == 1
    assert "gone.pth: download failed (curl 22)" in run.stderr and "net.pth: sha256 is not 000" in run.stderr
    assert (tmp_path / "net.pth").is_file()  # one failure does not keep the others away
    assert not (tmp_path / "forged.pth").exists() and not (tmp_path / "forged.pth.part").exists()
    (tmp_path / "net.pth").write_bytes(b"cut short")
    assert "net.pth: sha256 is not" in download(tmp_path, table, "--only", "net").stderr


def test_download__list_and_bad_flags(tmp_path: Path) -> None:
    table = {"net": entry("net.pth", "http://127.0.0.1:9/net.pth")}
    listed = download(tmp_path, table, "--list")
    assert listed.returncode == 0 and "net: missing, net.pth from http://127.0.0.1:9/net.pth" in listed.stdout
    for flags, message in (
        (("--only", "nix"), "--only nix: unknown; choose from net"),
        (("--only",), "--only: needs names"),
        (("--root",), "--root: needs a value"),
        (("--nix",), "--nix: unknown option"),
        (("--table", "none.yaml"), "none.yaml: no such file"),
    ):
        run = download(tmp_path, table, *flags)
        assert run.returncode == 2 and message in run.stderr and len(run.stderr.splitlines()) == 1


def test_weight_table__every_entry_is_complete() -> None:
    for name, known in weight_table().items():
        assert known["source"] and "licence" in known and known["supervised_by"], name
        assert known["uses_ground_truth"] in (True, False, None), name
        for file in weight_files(name):
            assert file.url is None or file.url.startswith("https://"), name
            assert file.url or known["how"], name
    places = [file.path for name in weight_table() for file in weight_files(name)]
    assert len(set(places)) == len(places)
