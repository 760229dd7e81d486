"""What bash, zsh and fish read to complete `thau`. Owns the three scripts; refuses to know commands (completing.py).

The words are in the script, so that a Tab starts no Python. Only numbers of versions and names of conversations are
asked for, of `thau completion`, where one is to be typed.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Wants = Literal["nothing", "word", "file", "folder", "version", "chat"]
"""What comes behind an option, or as an argument. `nothing`: it is a switch."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option by all its names. `choices`: the words it takes, where they are known."""

    names: tuple[str, ...]
    wants: Wants
    choices: tuple[str, ...] = ()
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Verb:
    """A command by its path from `thau` on, e.g. ("versions", "show"); the program itself is ()."""

    path: tuple[str, ...]
    options: tuple[Option, ...]
    argument: Wants = "nothing"
    choices: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    purpose: str = ""

    @property
    def key(self) -> str:
        """The path in one word."""
        return ".".join(self.path)


SOURCES: Mapping[Wants, str] = MappingProxyType({"version": "versions", "chat": "chats"})
"""What `thau completion` lists of them."""


def bash(verbs: Sequence[Verb]) -> str:
    """For bash: `source <(thau completion bash)`."""
    paths = " ".join(verb.key for verb in verbs if verb.path)
    words = "\n".join(f"        {quote(verb.key)}) words={quote(first_words(verb))} ;;" for verb in verbs)
    behind = "\n".join(
        f"        {'|'.join(quote(f'{verb.key} {name}') for name in option.names)}) {bash_source(option)} return ;;"
        for verb in verbs
        for option in verb.options
        if option.wants != "nothing"
    )
    arguments = "\n".join(
        f"        {quote(verb.key)}) {bash_source(verb_argument(verb))} ;;" for verb in verbs if takes(verb)
    )
    return f"""# bash completion of thau: source <(thau completion bash)
_thau() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb="" words="" home=() i word
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $word == --home ]]; then home=(--home "${{COMP_WORDS[i+1]}}"); ((i++)); continue; fi
        case " {paths} " in *" ${{verb:+$verb.}}$word "*) verb=${{verb:+$verb.}}$word ;; esac
    done
    case "$verb $prev" in
{behind}
    esac
    case "$verb" in
{words}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    [[ $cur == -* ]] && return
    case "$verb" in
{arguments}
    esac
}}
_thau_add() {{ local each; while IFS= read -r each; do COMPREPLY+=("$each"); done; }}
_thau_files() {{ compopt -o filenames 2>/dev/null; _thau_add < <(compgen "$1" -- "$2"); }}
_thau_asked() {{ _thau_add < <(compgen -W "$(thau "${{home[@]}}" completion "$1" 2>/dev/null)" -- "$cur"); }}
complete -F _thau thau
"""


def bash_source(option: Option) -> str:
    """The command that fills COMPREPLY behind an option."""
    if option.choices:
        return f'COMPREPLY+=($(compgen -W {quote(" ".join(option.choices))} -- "$cur"));'
    if option.wants in SOURCES:
        return f"_thau_asked {SOURCES[option.wants]};"
    flags = {"file": "-f", "folder": "-d"}
    return f'_thau_files {flags[option.wants]} "$cur";' if option.wants in flags else ":;"


def zsh(verbs: Sequence[Verb]) -> str:
    """For zsh: `source <(thau completion zsh)` behind compinit, or a file `_thau` on the fpath."""
    cases = "\n".join(zsh_case(verb) for verb in verbs)
    paths = " ".join(verb.key for verb in verbs if verb.path)
    return f"""#compdef thau
# zsh completion of thau: source <(thau completion zsh), behind compinit
_thau() {{
    local verb="" word cur=${{words[CURRENT]}} prev=${{words[CURRENT-1]}} i
    local -a home
    for ((i = 2; i < CURRENT; i++)); do
        word=${{words[i]}}
        if [[ $word == --home ]]; then home=(--home "${{words[i+1]}}"); ((i++)); continue; fi
        [[ " {paths} " == *" ${{verb:+$verb.}}$word "* ]] && verb=${{verb:+$verb.}}$word
    done
    case "$verb $prev" in
{zsh_behind(verbs)}
    esac
    case "$verb" in
{cases}
    esac
}}
_thau_asked() {{ local -a found; found=(${{(f)"$(thau $home completion $1 2>/dev/null)"}}); compadd -- $found; }}
if [[ $funcstack[1] == _thau ]]; then _thau "$@"; else compdef _thau thau; fi
"""


def zsh_behind(verbs: Sequence[Verb]) -> str:
    """What comes behind options."""
    return "\n".join(
        f"        {'|'.join(quote(f'{verb.key} {name}') for name in option.names)}) {zsh_source(option)} return ;;"
        for verb in verbs
        for option in verb.options
        if option.wants != "nothing"
    )


def zsh_case(verb: Verb) -> str:
    """What comes within a command: its options where a dash was typed, else verbs and arguments."""
    options = "\n".join(f"            {quote(pair)}" for option in verb.options for pair in described(option))
    lines = [f"        {quote(verb.key)})", "            local -a options=(", options, "            )"]
    lines.append("            if [[ $cur == -* ]]; then _describe option options; return; fi")
    if verb.verbs:
        lines.append(f"            compadd -- {' '.join(verb.verbs)}")
    if takes(verb):
        lines.append(f"            {zsh_source(verb_argument(verb))}")
    return "\n".join([*lines, "            ;;"])


def described(option: Option) -> list[str]:
    """`name:purpose` of each of its names."""
    purpose = option.purpose.replace(":", "\\:")
    return [f"{name}:{purpose}" for name in option.names]


def zsh_source(option: Option) -> str:
    """The command that adds what comes behind an option."""
    if option.choices:
        return f"compadd -- {' '.join(quote(choice) for choice in option.choices)};"
    if option.wants in SOURCES:
        return f"_thau_asked {SOURCES[option.wants]};"
    return {"file": "_files;", "folder": "_files -/;"}.get(option.wants, ":;")


def fish(verbs: Sequence[Verb]) -> str:
    """For fish: `thau completion fish | source`."""
    lines = ["# fish completion of thau: thau completion fish | source", "complete -c thau -f", FISH_FUNCTIONS]
    for verb in verbs:
        here = f"-n {quote(f'__thau_in {quote(verb.key)}')}"
        purposes = {each.path[-1]: each.purpose for each in verbs if each.path[:-1] == verb.path and each.path}
        lines += [f"complete -c thau {here} -a {name} -d {quote(purposes.get(name, ''))}" for name in verb.verbs]
        lines += [fish_option(option, here) for option in verb.options]
        if takes(verb):
            lines.append(f"complete -c thau {here} {fish_source(verb_argument(verb))}")
    return "\n".join(lines) + "\n"


FISH_FUNCTIONS = """
function __thau_verb
    set -l verb
    set -l skip 0
    for word in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
        else if test $word = --home
            set skip 1
        else if not string match -q -- '-*' $word
            contains -- (string join . $verb $word) $__thau_paths; and set -a verb $word
        end
    end
    string join . $verb
end
function __thau_in
    test "$(__thau_verb)" = "$argv[1]"
end
function __thau_asked
    set -l home
    set -l words (commandline -opc)
    set -l at (contains -i -- --home $words); and set home --home $words[(math $at + 1)]
    thau $home completion $argv[1] 2>/dev/null
end"""


def fish_option(option: Option, here: str) -> str:
    """One option's line."""
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    needs = "" if option.wants == "nothing" else f" -x {fish_source(option)}"
    return f"complete -c thau {here} {names}{needs} -d {quote(option.purpose)}".replace("  ", " ")


def fish_source(option: Option) -> str:
    """Where the words behind an option come from."""
    if option.choices:
        return f"-a {quote(' '.join(option.choices))}"
    if option.wants in SOURCES:
        return f"-a '(__thau_asked {SOURCES[option.wants]})'"
    return {"file": "-F", "folder": "-a '(__fish_complete_directories)'"}.get(option.wants, "")


def takes(verb: Verb) -> bool:
    """Whether there is something to complete as its argument."""
    return verb.argument in {"file", "folder", "version", "chat"} or bool(verb.choices)


def verb_argument(verb: Verb) -> Option:
    """Its argument, as if an option wanted it."""
    return Option((), verb.argument, verb.choices)


def first_words(verb: Verb) -> str:
    """What may come next within a command."""
    return " ".join((*verb.verbs, *(name for option in verb.options for name in option.names)))


def quote(text: str) -> str:
    """A word for a shell."""
    return shlex.quote(text)


def fish_paths(verbs: Sequence[Verb]) -> str:
    """The paths that fish looks words up in."""
    return f"set -g __thau_paths {' '.join(verb.key for verb in verbs if verb.path)}\n"


SHELLS: Mapping[str, Callable[[Sequence[Verb]], str]] = MappingProxyType(
    {"bash": bash, "zsh": zsh, "fish": lambda verbs: fish_paths(verbs) + fish(verbs)}
)
