"""Probes of changing what lies outside, and of touching what is guarded inside. See harness.py."""

import os
import sys

from tests.safety.inside.harness import P, libc, own, part, poke, probe, secret

# Changing what lies outside


@probe
def append():
    return poke(own("append") + "/f")


@probe
def cut():
    os.truncate(own("cut") + "/f", 0)
    return True


@probe
def create():
    return poke(own("create") + "/new")


@probe
def unlink():
    os.unlink(own("unlink") + "/f")
    return True


@probe
def rename():
    os.rename(own("rename") + "/f", own("rename") + "/g")
    return True


@probe
def make_folder():
    os.mkdir(own("make_folder") + "/d")
    return True


@probe
def make_link():
    os.symlink("x", own("make_link") + "/l")
    return True


@probe
def make_fifo():
    os.mkfifo(own("make_fifo") + "/p")
    return True


@probe
def change_mode():
    os.chmod(own("change_mode") + "/f", 0o777)
    return True


@probe
def change_mode_of_folder():
    os.chmod(own("change_mode_of_folder"), 0o777)
    return True


@probe
def change_owner():
    os.chown(own("change_owner") + "/f", 65534, 65534)
    return True


@probe
def change_times():
    os.utime(own("change_times") + "/f", (1, 1))
    return True


@probe
def set_attribute():
    os.setxattr(own("set_attribute") + "/f", "user.probe", b"x")
    return True


@probe
def link_into():
    open("mine", "w").close()
    os.link("mine", own("link_into") + "/mine")
    return True


@probe
def rename_into():
    open("mine2", "w").close()
    os.rename("mine2", own("rename_into") + "/mine")
    return True


@probe
def rename_out_of():
    os.rename(own("rename_out_of") + "/f", "taken")
    return True


@probe
def write_through_link():
    os.symlink(own("write_through_link") + "/f", "through")
    return poke("through")


@probe
def write_through_dotdot():
    return poke("../outside/write_through_dotdot/f")


@probe
def write_by_thaus_root():
    return poke(f"/proc/{P['thau']}/root{own('write_by_thaus_root')}/f")


@probe
def write_shared_memory():
    return poke(f"/dev/shm/{P['mark']}")


@probe
def change_device():
    os.utime("/dev/null", (P["device_time"], P["device_time"]))
    return True


@probe
def write_runtime():
    path = os.path.join(sys.prefix, "lib", P["mark"])
    poke(path)
    os.unlink(path)
    return True


@probe
def write_usr():
    poke(f"/usr/{P['mark']}")
    os.unlink(f"/usr/{P['mark']}")
    return True


@probe
def write_sysctl():
    with open("/proc/sys/kernel/core_pattern") as file:
        pattern = file.read()
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write(pattern)
    return True


@probe
def open_sysrq():
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return True


@probe
def watch_outside():
    return libc.inotify_add_watch(libc.inotify_init1(0), P["secret"].encode(), 0xFFF) >= 0 and secret(P["secret"])


# What is guarded inside the workspace: each probe has its own part of it; judged from outside


@probe
def write_git_config():
    return poke(".git/config")


@probe
def write_nested_git_config():
    return poke(part("write_nested_git_config", ".git/config"))


@probe
def plant_git_hook():
    return poke(part("plant_git_hook", ".git/hooks/post-commit"))


@probe
def move_git_away():
    os.rename(part("move_git_away", ".git"), part("move_git_away", "moved"))
    return True


@probe
def take_gits_place():
    os.rename("parts/take_gits_place", "parts/moved")
    os.makedirs(part("take_gits_place", ".git"))
    return poke(part("take_gits_place", ".git/config"))


@probe
def delete_git_config():
    os.unlink(part("delete_git_config", ".git/config"))
    return True


@probe
def make_git_config_writable():
    os.chmod(part("make_git_config_writable", ".git/config"), 0o777)
    return poke(part("make_git_config_writable", ".git/config"))


@probe
def link_git_config():
    os.link(part("link_git_config", ".git/config"), "free/config")
    return poke("free/config")


@probe
def write_start_up_file():
    return poke(part("write_start_up_file", ".bashrc"))


@probe
def replace_start_up_file():
    open("free/mine3", "w").close()
    os.rename("free/mine3", part("replace_start_up_file", ".bashrc"))
    return True


@probe
def replace_start_up_link():
    os.unlink(part("replace_start_up_link", ".zshrc"))
    return poke(part("replace_start_up_link", ".zshrc"))


@probe
def plant_git():
    os.makedirs("free/planted/.git")
    return poke("free/planted/.git/config")


@probe
def plant_start_up_file():
    return poke("free/.profile")


@probe
def plant_deep():
    os.makedirs("free/" + "d/" * 40)
    return poke("free/" + "d/" * 40 + ".envrc")


@probe
def plant_in_other_case():
    os.makedirs("free/.GIT")
    return poke("free/.GIT/config")


@probe
def write_thaus_ledger():
    return poke(part("write_thaus_ledger", "thau/data/ledger.sqlite3"))


@probe
def feed_the_drop_box():
    return poke(part("feed_the_drop_box", "thau/data/training_queue/planted.jsonl"))


@probe
def write_thaus_settings():
    return poke(part("write_thaus_settings", "thau/thau.toml"))


@probe
def move_thaus_home():
    os.rename(part("move_thaus_home", "thau"), part("move_thaus_home", "thau2"))
    os.makedirs(part("move_thaus_home", "thau/data/training_queue"))
    return poke(part("move_thaus_home", "thau/data/training_queue/planted.jsonl"))
