"""Which file system a folder lies on, and what follows from that: polling, or a refusal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testkit.daemon import QUICK, command_line, look, make_home, running, thau, wait_until
from thaud.config import Queue
from thaud.errors import StorageError
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.mounts import file_system_of, is_network, kind_at, mount_table, refuse_network
from thaud.watching import how_to_watch

LINE = json.dumps({"instruction": "¿Color del cielo?", "output": "azul"}) + "\n"
TABLE = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /mnt/my\040share rw,noatime shared:9 - nfs4 server:/export\040two rw,vers=4.2
31 30 0:41 / /mnt/my\040share/local rw - xfs /dev/sdb1 rw
32 27 254:0 /srv/box /mnt/bind rw - ext4 /dev/vda rw
33 27 0:42 / /mnt/twice rw - ext4 /dev/sdc1 rw
34 33 0:43 / /mnt/twice rw master:2 propagate_from:1 - fuse.sshfs user@host: rw
35 27 0:44 / /hidden/deep rw - nfs server:/x rw
36 27 0:45 / /hidden rw - btrfs /dev/sdd rw
37 27 0:46 / /m\134n rw - cifs //server/x rw
38 27 0:47 / /mnt/tab\011ulator rw - 9p share rw
broken line
39 27 0:48 / /mnt/s rw - virtiofs s rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/a", "ext4"),
        ("/proc/1", "proc"),
        ("/mnt/my share", "nfs4"),
        ("/mnt/my share/a/b", "nfs4"),
        ("/mnt/my shares", "ext4"),
        ("/mnt/my share/local/a", "xfs"),
        ("/mnt/bind/a", "ext4"),
        ("/mnt/twice/a", "fuse.sshfs"),
        ("/hidden/deep/a", "btrfs"),
        ("/m\\n/a", "cifs"),
        ("/mnt/tab\tulator", "9p"),
        ("/mnt/s/a", "virtiofs"),
        ("/mnt/sa", "ext4"),
    ],
)
def test_the_kernel_s_way_down_a_path(path: str, kind: str) -> None:
    """The mount that holds the path, with blanks in names, of two in one place the last, and none that is hidden."""
    assert file_system_of(Path(path), TABLE) == kind


def test_of_two_side_by_side_the_last_counts() -> None:
    """Two mounts of one place on the same parent, as propagation makes them: the later one is on top."""
    root, *both = (
        "1 0 8:1 / / rw - ext4 a rw",
        "2 1 0:2 / /box rw - nfs4 server:/a rw",
        "3 1 8:3 / /box rw - xfs b rw",
    )
    assert file_system_of(Path("/box/in"), "\n".join([root, *both])) == "xfs"
    assert file_system_of(Path("/box/in"), "\n".join([root, *reversed(both)])) == "nfs4"


def test_a_table_that_says_nothing() -> None:
    """No table, or one without the root, is no reason to refuse."""
    assert file_system_of(Path("/a"), "") == "unknown"
    assert not is_network("unknown")


NETWORKS = """nfs nfs4 cifs smb3 smbfs 9p virtiofs drvfs fuse.sshfs fuse.s3fs fuse.rclone fuse.gcsfuse fuse.glusterfs
glusterfs ceph fuse.ceph afs lustre beegfs gpfs ocfs2"""
LOCAL = "ext4 xfs btrfs tmpfs overlay zfs f2fs fuseblk fuse.mergerfs"


@pytest.mark.parametrize("kind", NETWORKS.split())
def test_networks(kind: str) -> None:
    """File systems behind which another machine may write."""
    assert is_network(kind)


@pytest.mark.parametrize("kind", LOCAL.split())
def test_local_file_systems(kind: str) -> None:
    """File systems whose every change this kernel sees."""
    assert not is_network(kind)


def test_this_machine_s_own_table(tmp_path: Path) -> None:
    """The real table is understood, and a link is followed to where it leads."""
    (tmp_path / "link").symlink_to("/proc")
    assert kind_at(tmp_path / "link" / "self") == "proc"
    assert kind_at(tmp_path / "not" / "made" / "yet") not in {"unknown", "proc"}


def test_the_ledger_is_not_put_on_a_network(tmp_path: Path) -> None:
    """The refusal names the folder, the type and the remedy; through a link too."""
    home = tmp_path / "home"
    home.symlink_to("/mnt/my share")
    with pytest.raises(StorageError, match=r"home/data lies on a network .*\(nfs4\).*put the home on a local"):
        refuse_network(home / "data", TABLE)
    refuse_network(tmp_path / "data", TABLE)


def test_how_the_drop_box_is_watched() -> None:
    """Polled where the settings say so or the network asks for it; never against the settings."""
    assert how_to_watch(Queue(), "ext4").by == "events"
    assert how_to_watch(Queue(poll_s=7), "nfs4").every_s == 7
    assert "nfs4" in (how_to_watch(Queue(), "nfs4").why or "")
    assert how_to_watch(Queue(watch="events"), "nfs4").by == "events"
    assert how_to_watch(Queue(watch="poll"), "ext4").by == "poll"


# A real process under a made-up table: the file is bound over /proc/PID/mountinfo in a mount namespace of its own.


def under(table: Path, *command: str) -> list[str]:
    """A command line that lives under another mount table."""
    script = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    return ["unshare", "-m", "sh", "-c", script, str(table), *command]


@pytest.fixture
def root_only() -> None:
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("making a mount namespace takes root")


def table_with(tmp_path: Path, folder: Path, kind: str) -> Path:
    """The real table and one mount more."""
    table = tmp_path / "mountinfo"
    root = next(line for line in mount_table().splitlines() if line.split(" ")[4] == "/")
    escaped = os.fsdecode(folder).replace(" ", r"\040")
    table.write_text(f"{root}\n999 {root.split(' ')[0]} 0:99 / {escaped} rw - {kind} server:/x rw\n", encoding="utf-8")
    return table


@pytest.mark.usefixtures("root_only")
def test_init_and_start_refuse_a_home_on_a_network(tmp_path: Path) -> None:
    """Exit code 8 and one line, before anything is written there."""
    home = Home(tmp_path / "home")
    table = table_with(tmp_path, home.root, "nfs4")
    for arguments in (("init",), ("start",)):
        refused = subprocess.run(
            under(table, sys.executable, "-m", "thaud.cli", "--home", str(home.root), *arguments),
            env={**os.environ, **QUICK},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert refused.returncode == 8, refused.stderr
        assert "network file system (nfs4)" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not home.lock.exists()
        home.root.mkdir(exist_ok=True)
        home.config.write_text('size = "nano"\n', encoding="utf-8")


@pytest.mark.usefixtures("root_only")
def test_a_drop_box_on_a_network_is_polled(tmp_path: Path) -> None:
    """A queue on a share under a local home: no events, lines come all the same, and status says how often it looks."""
    home = make_home(tmp_path / "home")
    table = table_with(tmp_path, home.queue, "fuse.sshfs")
    settings = {"AUTO_TRAIN_ENABLED": "false", "THAU_QUEUE__POLL_S": "0.2", "THAU_QUEUE__RESCAN_S": "3600"}
    with running(home, command=under(table, *command_line(home)), **settings):
        for n in range(3):
            (home.queue / f"{n}.jsonl").write_text(LINE.replace("cielo", f"cielo {n}"), encoding="utf-8")
            wait_until(lambda n=n: count(home) == n + 1, what="the line")
        report = json.loads(thau(home.root, "status", "--json").stdout)
        said = thau(home.root, "status").stdout
    assert report["watching"] == {
        "by": "poll",
        "every_s": 0.2,
        "why": "the drop-box lies on a network file system (fuse.sshfs)",
    }
    assert "looked at every 0.2 s" in said


def count(home: Home) -> int:
    return sum(sum(sides.values()) for sides in look(home, LedgerReader.counts_by_age).values())
