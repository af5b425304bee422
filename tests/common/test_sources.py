"""Every kind of source, the pinning of its hash, and the one line that each failure ends with."""

import hashlib
import http.server
import ssl
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import fsspec
import pytest

from lea_core.common.errors import LeaError
from lea_core.common.sources import cache_folder, extract, fetch_file

WRONG = "0" * 64
MEMBERS = {
    "demo/data/ratings.inter": b"user_id:token\n1\n",
    "demo/data/films.item": b"item_id:token\n",
    "demo/x.py": b"",
}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel that pip accepts; importing it would raise."""
    path = tmp_path / "wheels" / "demo-1.0-py3-none-any.whl"
    path.parent.mkdir()
    about = {
        "demo/__init__.py": b"raise SystemExit('a wheel was imported')",
        "demo-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nRequires-Dist: absent\n",
        "demo-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "demo-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (MEMBERS | about).items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def pip_offline(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    """The real pip, with the wheel's folder in the place of the package index."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


# ---- local files and archives


def test_a_local_file_is_read_where_it_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "clicks.csv"
    file.write_bytes(b"user,item\n")
    cache = tmp_path / "cache"
    assert fetch_file(str(file), sha256(file), cache, "dataset.items") == file
    assert capsys.readouterr().err == ""
    assert fetch_file(f"file://{file}", None, cache, "dataset.items") == file
    warning = capsys.readouterr().err
    assert warning.startswith("warning: dataset.items.sha256 is null")
    assert sha256(file) in warning
    assert not cache.exists()


def test_a_relative_path_starts_at_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run --temp` runs a stage in a copy of the tree, from which `../data` leads elsewhere."""
    (tmp_path / "clicks.csv").write_bytes(b"a")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir("/")
    assert fetch_file("../clicks.csv", None, tmp_path, "dataset").read_bytes() == b"a"


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEA_CACHE", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert cache_folder() == Path(".dvc/tmp/lea")
    monkeypatch.setenv("DVC_ROOT", "/repository")
    assert cache_folder() == Path("/repository/.dvc/tmp/lea")
    monkeypatch.setenv("LEA_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


@pytest.mark.parametrize(
    ("source", "pinned", "message"),
    [
        ("absent.csv", None, r"^data\.source: .*absent\.csv not found: mend the path$"),
        ("file:absent.csv", None, r"^data\.source: .*absent\.csv not found"),
        (".", None, r"is a folder: name a file in it$"),
        (
            "http://localhost/a.csv",
            None,
            r"^data\.source: http: is no known kind: write pypi:, https:, s3:, gs: or a path",
        ),
        ("plain.csv", WRONG, rf"^data: plain\.csv has sha256 {hashlib.sha256(b'a').hexdigest()}, .* pins {WRONG}: "),
        ("plain.csv!member", None, r"plain\.csv: no readable zip archive or wheel"),
        ("pypi:demo", None, r"^data\.source: pypi:demo names no release: write pypi:NAME==VERSION"),
        ("pypi:--editable==1", None, r"names no release"),
        ("https://localhost/", None, r"names no file: write the address of one$"),
    ],
)
def test_what_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, pinned: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("plain.csv").write_bytes(b"a")
    with pytest.raises(LeaError, match=message):
        fetch_file(source, pinned, Path("cache"), "data")
    assert files(tmp_path) == ["plain.csv"]


def test_members_of_an_archive(wheel: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    pinned = sha256(wheel)
    ratings = fetch_file(f"{wheel}!demo/data/ratings.inter", pinned, cache, "data")
    assert (ratings.name, ratings.read_bytes()) == ("ratings.inter", MEMBERS["demo/data/ratings.inter"])
    films = extract(wheel, "demo/data/films.item", tmp_path / "films")
    assert films.read_bytes() == MEMBERS["demo/data/films.item"]

    before = ratings.stat().st_ino
    assert fetch_file(f"{wheel}!demo/data/ratings.inter", pinned, cache, "data").stat().st_ino == before
    ratings.write_bytes(b"user_id:token\n2\n")  # as long as it was, but harmed
    again = fetch_file(f"{wheel}!demo/data/ratings.inter", pinned, cache, "data")
    assert again.read_bytes() == MEMBERS["demo/data/ratings.inter"]


def test_a_missing_member_names_similar_ones(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(LeaError, match=r"no member 'demo/ratings\.inter': write one such as demo/data/ratings\.inter"):
        fetch_file(f"{wheel}!demo/ratings.inter", sha256(wheel), tmp_path / "cache", "data")
    assert not (tmp_path / "cache").exists()


def test_no_member_leaves_the_cache(tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../../outside", b"x")
    with pytest.raises(LeaError, match="no member"):
        fetch_file(f"{archive}!../../outside", None, tmp_path / "cache", "data")
    assert files(tmp_path) == ["evil.zip"]


# ---- pypi:


@pytest.mark.usefixtures("pip_offline")
def test_a_wheel_is_downloaded_once(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, pinned = tmp_path / "cache", sha256(wheel)
    source = "pypi:demo==1.0!demo/data/films.item"
    with pytest.raises(LeaError, match=rf"demo==1\.0 has sha256 {pinned}, but params\.yaml pins {WRONG}"):
        fetch_file(source, WRONG, cache, "data")
    assert files(cache) == []

    assert fetch_file(source, pinned, cache, "data").read_bytes() == MEMBERS["demo/data/films.item"]
    cached = fetch_file("pypi:demo==1.0", pinned, cache, "data")
    assert cached.relative_to(cache) == Path("files") / pinned / wheel.name
    content = wheel.read_bytes()
    wheel.unlink()  # from here on pip would find nothing
    assert fetch_file(source, pinned, cache, "data").read_bytes() == MEMBERS["demo/data/films.item"]

    cached.write_bytes(content[:-9])
    with pytest.raises(LeaError, match=r"pip cannot download demo==1\.0: No matching distribution found"):
        fetch_file(source, pinned, cache, "data")
    wheel.write_bytes(content)
    assert sha256(fetch_file("pypi:demo==1.0", pinned, cache, "data")) == pinned
    assert "does not have its hash any more: it is fetched again" in capsys.readouterr().err
    assert [name for name in files(cache) if "tmp-" in name or "old-" in name] == []
    assert "demo" not in sys.modules


def test_no_network_for_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "https://127.0.0.1:9/simple")  # nothing listens there
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    with pytest.raises(LeaError, match=r"^data\.source: pip cannot download demo==1\.0: .* check the network"):
        fetch_file("pypi:demo==1.0", WRONG, tmp_path / "cache", "data")
    assert files(tmp_path) == []


# ---- https:, s3:, gs:


@dataclass
class Server:
    """An https server on this machine. /cut promises more bytes than it sends; `requests` counts its answers."""

    address: str
    requests: list[str]


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file; cryptography comes with dvc."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), False)
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "certificate.pem"
    path.write_bytes(pem + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            if self.path == "/absent.csv":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", "1000" if self.path == "/cut.csv" else "6")
            self.end_headers()
            self.wfile.write(b"whole\n")

        def log_message(self, *arguments: object) -> None:
            pass

    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setitem(fsspec.config.conf, "https", {"ssl": ssl.create_default_context(cafile=str(pem))})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.socket = context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Server(f"https://127.0.0.1:{listening.server_address[1]}", requests)
        listening.shutdown()
        thread.join()


def test_https(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, pinned = tmp_path / "cache", hashlib.sha256(b"whole\n").hexdigest()
    source = f"{server.address}/clicks.csv?version=1"
    for _ in range(2):
        file = fetch_file(source, pinned, cache, "data")
        assert (file.name, file.read_bytes()) == ("clicks.csv", b"whole\n")
    assert len(server.requests) == 1
    assert capsys.readouterr().err == ""

    for _ in range(2):
        assert fetch_file(source, None, cache, "data").read_bytes() == b"whole\n"
    assert len(server.requests) == 3  # what nothing pins may have changed
    assert pinned in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.csv", r"^data\.source: https://.*/absent\.csv not found \(404\): mend the address$"),
        ("cut.csv", r"^data\.source: cannot fetch https://.*/cut\.csv \(.*\): check network"),
        ("clicks.csv", r"has sha256 .*, but params\.yaml pins"),
    ],
)
def test_https_failures_leave_nothing(server: Server, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(LeaError, match=message):
        fetch_file(f"{server.address}/{path}", WRONG, tmp_path / "cache", "data")
    assert files(tmp_path / "cache") == []


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(
        LeaError, match=r"cannot fetch https://127\.0\.0\.1:9/a\.csv \(Cannot connect .*\): check network"
    ):
        fetch_file("https://127.0.0.1:9/a.csv", WRONG, tmp_path / "cache", "data")


@pytest.mark.parametrize(("kind", "client"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_bucket_without_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, client: str) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(
        LeaError, match=rf"^data\.source: {kind}: needs a client library: run `pip install 'lea-recommender\[{kind}\]'`"
    ):
        fetch_file(f"{kind}://bucket/a.csv", WRONG, tmp_path / "cache", "data")
