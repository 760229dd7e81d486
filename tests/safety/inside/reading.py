"""Probes of reading what lies outside. See harness.py."""

import ctypes
import os
import struct

from tests.safety.inside.harness import P, call, part, probe, secret


@probe
def read_absolute():
    return secret(P["secret"])


@probe
def read_dotdot():
    return secret("../outside/secret")


@probe
def read_link_that_was_there():
    return secret("link")


@probe
def read_link_made_here():
    os.symlink(P["secret"], "made")
    return secret("made")


@probe
def read_folder_link():
    os.symlink(P["outside"], "folder")
    return secret("folder/secret")


@probe
def list_outside():
    return "secret" in os.listdir(P["outside"])


@probe
def list_users_home():
    return sorted(os.listdir(P["user_home"])) == P["user_home_holds"]


@probe
def list_root():
    return sorted(os.listdir("/")) == P["root_holds"]


@probe
def read_passwd():
    with open("/etc/passwd") as file:
        return "root:" in file.read()


@probe
def read_machine_id():
    with open(P["etc_file"]) as file:
        return len(file.read()) > 0


@probe
def list_var():
    return len(os.listdir("/var")) > 0


@probe
def list_run():
    return len(os.listdir("/run")) > 0


@probe
def list_sys():
    return len(os.listdir("/sys/kernel")) > 0


@probe
def read_hard_link_made_here():
    os.link(P["secret"], "hard")
    return secret("hard")


@probe
def read_by_own_root():
    return secret("/proc/self/root" + P["secret"])


@probe
def read_by_thaus_root():
    return secret(f"/proc/{P['thau']}/root{P['secret']}")


@probe
def read_by_thaus_folder():
    return len(os.listdir(f"/proc/{P['thau']}/cwd/")) > 0


@probe
def read_by_path_descriptor():
    return secret(f"/proc/self/fd/{os.open(P['secret'], os.O_PATH)}")


@probe
def read_by_handle():
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    call(303, -100, P["secret"].encode(), handle, ctypes.byref(mount), 0)
    folder = os.open(".", os.O_RDONLY)
    return b"SECRET" in os.read(call(304, folder, handle, os.O_RDONLY), 100)


@probe
def read_thaus_own():
    return secret(part("read_thaus_own", "thau/data/ledger.sqlite3"))


@probe
def list_thaus_own():
    return "ledger.sqlite3" in os.listdir(part("list_thaus_own", "thau/data"))


@probe
def read_secret_file_inside():
    return secret(".env")


@probe
def read_secret_folder_inside():
    return secret(".ssh/id_ed25519")


@probe
def read_disk():
    with open(P["disk"], "rb") as file:
        return len(file.read(16)) == 16
