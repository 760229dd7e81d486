"""The contract's point 1: uploads."""

import hashlib
import os
from pathlib import Path

from tests.contract.targets import Target


def test_blob_is_uploaded_once(target: Target) -> None:
    """1. A file is sent where HEAD says 404 and not again where it says 200; its progress ends at its size."""
    version = target.forge.version(1, [f"unique to {target.forge.family} {os.urandom(8).hex()}"])
    digest, path = f"sha256:{version.gguf_sha256}", Path(version.gguf)
    seen: list[tuple[int, int]] = []
    assert not target.server.has_blob(digest)
    assert target.server.push_blob(path, digest, lambda sent, size: seen.append((sent, size)))
    assert target.server.has_blob(digest)
    assert not target.server.push_blob(path, digest)
    assert seen[-1] == (version.size_bytes, version.size_bytes)


def test_blob_statuses(target: Target) -> None:
    """1. A second upload is 200 unread, a bad digest 400, a wrong one 400 naming both, another method 405."""
    data = os.urandom(64)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    wrong = f"sha256:{'0' * 64}"
    with target.http() as client:
        assert client.post(f"/api/blobs/{digest}", content=data).status_code == 201
        assert client.post(f"/api/blobs/{digest}", content=b"not even the same bytes").status_code == 200
        assert client.post("/api/blobs/sha256:zz", content=data).status_code == 400
        assert client.head("/api/blobs/sha256:zz").status_code == 400
        refused = client.put(f"/api/blobs/{digest}", content=data)
        assert (refused.status_code, refused.text) == (405, "405 method not allowed")
        assert (client.get("/api/nowhere").status_code, client.get("/api/nowhere").text) == (404, "404 page not found")
        other = os.urandom(64)
        mismatch = client.post(f"/api/blobs/{wrong}", content=other)
        assert mismatch.status_code == 400
        assert mismatch.json()["error"].startswith(f'digest mismatch, expected "{wrong}", got "sha256:')
        assert client.head(f"/api/blobs/sha256:{hashlib.sha256(other).hexdigest()}").status_code == 200


def test_digest_in_other_spellings(target: Target) -> None:
    """1. A dash finds a blob as well as a colon; capital letters find none."""
    data = os.urandom(64)
    digest = hashlib.sha256(data).hexdigest()
    with target.http() as client:
        client.post(f"/api/blobs/sha256:{digest}", content=data)
        assert client.head(f"/api/blobs/sha256-{digest}").status_code == 200
        if digest.upper() != digest:
            assert client.head(f"/api/blobs/sha256:{digest.upper()}").status_code == 404


def test_served_file_may_differ_from_the_uploaded_one(target: Target) -> None:
    """1. A new server rewrites the file and an old one does not; the receipt names both digests."""
    receipt = target.serve(["hola"])
    assert receipt.served_sha256 == target.server.gguf_digest(receipt.name)
    assert (receipt.served_sha256 != receipt.gguf_sha256) == target.native
