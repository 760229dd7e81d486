"""What looks like a secret: where it is and of which kind, and text with it masked.

Owns which detectors are asked and what they are asked about; refuses to keep or to show what they find, and to ask
anybody on the network whether it is a real one. It errs towards finding: a person decides. detect-secrets is imported
when the first text is looked at.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from thaud.domain import Example, Message
from thaud.formats.strict import texts_of
from thaud.proposals.proposal import Proposal, Suspect

MASK = "█" * 8
WINDOW, OVERLAP = 4096, 512  # characters of a long line that are looked at together: the detectors are regexes
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL)
PATTERNS = (  # what the detectors do not know yet
    ("GitHub Token", re.compile(r"github_pat_[A-Za-z0-9_]{22,}")),
    ("Google API Key", re.compile(r"AIza[0-9A-Za-z_-]{35}")),
    ("Hugging Face Token", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("API Key", re.compile(r"\bsk-[A-Za-z0-9_-]{20,}")),
    ("Slack Token", re.compile(r"\bxapp-[0-9]-[A-Za-z0-9-]{20,}")),
    ("DigitalOcean Token", re.compile(r"\bdo[opr]_v1_[a-f0-9]{64}")),
    ("Private Key", re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]{30,}")),
    (
        "Basic Auth Credentials",
        re.compile(
            r"://[^\s/:@]{0,64}:(?P<secret>[^\s/@]{1,256})@|(?:\s-u|--user)[ =][\"']?\w{1,64}:[^\s\"']{1,256}"
            r"|(?i:\bbasic|\bbearer)\s(?=\S*[A-Z0-9])[A-Za-z0-9+/=._~-]{12,}"
        ),
    ),
    (
        "Secret Keyword",
        re.compile(
            r"(?i)(?:token|clave|key)[\w\"']{0,40}\s?(?:[:=\uff1a]|\bis\b|\bes\b)\s?[\"'`]?"
            r"(?=[^\s\"'`]{0,64}[0-9])(?=[^\s\"'`]{0,64}[a-z])(?P<secret>[^\s\"'`]{8,})"
        ),
    ),
    # as people say it in a sentence: "la clave del wifi es gato-77"
    (
        "Secret Keyword",
        re.compile(
            r"(?i)(?:contrase[nñ]a|password|passwd|passphrase|passcode|\bpin\b|\bpwd\b|\bclave\b)"
            r"(?:\s(?!is\b|es\b)[\w./]{1,20}){0,3}\s?(?:[:=\uff1a→]|->|\bis\b|\bes\b)\s?[\"'`«]?"
            r"(?=[^\s\"'`]{0,64}[0-9]|[^\s\"'`]{1,64}[-_!$%&*+?@#][^\s\"'`])(?P<secret>[^\s\"'`»]{4,})"
        ),
    ),
)
TOKEN = re.compile(r"[A-Za-z0-9+/_\-]{20,}={0,2}")
STRETCH = re.compile(r"(?:(?!\s{8})[^\n])+")  # of a line: behind many blanks begins another, or the regexes never end
DIGEST = re.compile(r"(?i)(?:sha[-_]?\d{1,3}|md5|digest|integrity|checksum)\W{0,3}\Z")
CODE = re.compile(r"[A-Za-z_][\w.]*[(\[]|(?:str|bytes|True|False|None|SecretStr)\b|your_|<|\*{3}|\.{3}|\$\{|\{")
ASSIGNED = re.compile(r"""[=:]\s*["'`]?\Z|["'`]\Z""")
HEX = re.compile(r"[0-9a-fA-F]+\Z")
HEX_BITS, ASSIGNED_BITS, BARE_BITS = 3.0, 4.0, 4.4  # of entropy a character
PART_OF_TOKEN = re.compile(r"[A-Za-z0-9_\-./+=~]")
FEWEST = 4  # characters of a password without quotes


class Found(NamedTuple):
    """A stretch of a text that looks like a secret."""

    kind: str
    begin: int
    end: int


def look_for_suspects(proposal: Proposal) -> tuple[Suspect, ...]:
    """All that a proposal holds, in order, each place and kind once."""
    found: dict[Suspect, None] = {}
    for place, text in texts_in(proposal):
        for each in secrets_in(text):
            found[Suspect(each.kind, place, text.count("\n", 0, each.begin) + 1)] = None
    return tuple(found)


def suspects_of(example: Example) -> tuple[Suspect, ...]:
    """Those of an example alone: what would go into the drop-box."""
    found: dict[Suspect, None] = {}
    for place, text in texts_of_example(example):
        for each in secrets_in(text):
            found[Suspect(each.kind, place, text.count("\n", 0, each.begin) + 1)] = None
    return tuple(found)


def masked(text: str) -> str:
    """The text with every suspect in it covered."""
    parts, at = [], 0
    for begin, end in merged(secrets_in(text)):
        parts += [text[at:begin], MASK]
        at = end
    return "".join((*parts, text[at:]))


def masked_json(value: Any) -> Any:
    """A JSON value with every suspect in its texts and keys covered."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {masked(key): MASK if told_by_name(key, each) else masked_json(each) for key, each in value.items()}
    return [masked_json(each) for each in value] if isinstance(value, list | tuple) else value


def told_by_name(name: str, value: Any) -> bool:
    """Whether a value is called a password, or the like, by the name that it has."""
    return isinstance(value, str) and any(secrets_in_line(f'{name} = "{value}"')) and not any(secrets_in_line(value))


def texts_in(proposal: Proposal) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that is stored of a proposal."""
    yield from texts_of_example(proposal.example)
    if proposal.rejected:
        yield from texts_of_turn("rejected", proposal.rejected)


def texts_of_example(example: Example) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that is learned from an example, and its metadata."""
    for index, turn in enumerate(example.messages):
        yield from texts_of_turn(f"messages[{index}]", turn)
    yield from (("tools", text) for text in texts_of([dict(tool) for tool in example.tools]))
    yield from (("metadata", text) for text in texts_of(dict(example.metadata)))
    yield from (("metadata", f'{key} = "{text}"') for key, text in example.metadata.items() if isinstance(text, str))
    yield "group", example.group or ""


def texts_of_turn(place: str, turn: Message) -> Iterator[tuple[str, str]]:
    """(place, text) of a turn's content and of the arguments of its calls."""
    yield f"{place}.content", turn.content
    for index, call in enumerate(turn.tool_calls):
        for name, value in call.arguments.items():
            yield from ((f"{place}.tool_calls[{index}].{name}", text) for text in texts_of(value))
            if isinstance(value, str):  # `password` is told by its name
                yield f"{place}.tool_calls[{index}].{name}", f'{name} = "{value}"'


def merged(found: Iterator[Found]) -> list[tuple[int, int]]:
    """Stretches that touch each other as one."""
    spans: list[tuple[int, int]] = []
    for begin, end in sorted((each.begin, each.end) for each in found):
        if spans and begin <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((begin, end))
    return spans


def secrets_in(text: str) -> Iterator[Found]:
    """What looks like a secret in a text; stretches may overlap."""
    yield from (Found("Private Key", *each.span()) for each in PRIVATE_KEY.finditer(text))
    for stretch in STRETCH.finditer(text):
        line, offset = stretch[0], stretch.start()
        for begin in range(0, max(1, len(line) - OVERLAP), WINDOW - OVERLAP):
            window = line[begin : begin + WINDOW]
            for kind, *span in secrets_in_line(window):
                start, end = widened(window, *span)
                yield Found(kind, offset + begin + start, offset + begin + end)


def widened(line: str, begin: int, end: int) -> tuple[int, int]:
    """The whole token: some detectors find its beginning."""
    while begin > 0 and PART_OF_TOKEN.match(line[begin - 1]) and line[begin - 1] != "=":
        begin -= 1
    while end < len(line) and PART_OF_TOKEN.match(line[end]):
        end += 1
    return begin, end


def secrets_in_line(line: str) -> Iterator[tuple[str, int, int]]:
    """(kind, begin, end) in one line."""
    for kind, patterns in detectors().items():
        yield from ((kind, *each.span()) for pattern in patterns for each in pattern.finditer(line))
    for kind, pattern in PATTERNS:
        for each in pattern.finditer(line):
            value = "secret" if each.groupdict().get("secret") else 0
            if not CODE.match(each[value]):
                yield kind, *each.span(value)
    yield from (("Secret Keyword", *span) for span in passwords_in(line))
    for token in TOKEN.finditer(line):
        before = line[max(0, token.start() - 16) : token.start()]
        if DIGEST.search(before):
            continue
        if disorder := disorderly(token[0], assigned=ASSIGNED.search(before) is not None):
            yield disorder, *token.span()


def passwords_in(line: str) -> Iterator[tuple[int, int]]:
    """What follows the word for a secret: in quotes, or one token that is no plain word of a sentence."""
    quoted, plain = keyword_patterns()
    for pattern, group in quoted.items():
        yield from (each.span(group) for each in pattern.finditer(line) if each[group].strip())
    for pattern, group in plain.items():
        for each in pattern.finditer(line):
            first, *more = each[group].split(maxsplit=1)
            telling = (not more or not first.isalpha()) and not CODE.match(first)
            if telling and len(first.strip(".,;:")) >= FEWEST:
                begin = line.index(first, each.start(group))
                yield begin, begin + len(first)


def disorderly(token: str, *, assigned: bool) -> str | None:
    """The kind of a token that has too much entropy to be a word, a path or a number; None of one that has not."""
    if HEX.match(token) and not token.isdigit():
        return "Hex High Entropy String" if assigned and entropy(token) > HEX_BITS else None
    has_letters_and_digits = any(map(str.isdigit, token)) and any(map(str.isalpha, token))
    mixed = any(map(str.isupper, token)) and any(map(str.islower, token))
    bits = ASSIGNED_BITS if assigned else BARE_BITS
    if has_letters_and_digits and (assigned or mixed) and entropy(token) > bits:
        return "Base64 High Entropy String"
    return None


def entropy(token: str) -> float:
    """Bits a character, as detect-secrets counts it (Shannon's entropy)."""
    from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString  # noqa: PLC0415

    return float(Base64HighEntropyString().calculate_shannon_entropy(token))


@cache
def detectors() -> Mapping[str, tuple[re.Pattern[str], ...]]:
    """Patterns of detect-secrets' plugins by kind. They are searched for here: its own way yields parts of what matches
    (of a GitHub token its first three letters), and asks servers whether a key is real.
    """
    from detect_secrets.plugins import (  # noqa: PLC0415 - a tenth of a second
        artifactory,
        aws,
        azure_storage_key,
        basic_auth,
        cloudant,
        discord,
        github_token,
        gitlab_token,
        ibm_cloud_iam,
        jwt,
        mailchimp,
        npm,
        openai,
        private_key,
        pypi_token,
        sendgrid,
        slack,
        square_oauth,
        stripe,
        telegram_token,
        twilio,
    )

    plugins = (
        artifactory.ArtifactoryDetector,
        aws.AWSKeyDetector,
        azure_storage_key.AzureStorageKeyDetector,
        basic_auth.BasicAuthDetector,
        cloudant.CloudantDetector,
        discord.DiscordBotTokenDetector,
        github_token.GitHubTokenDetector,
        gitlab_token.GitLabTokenDetector,
        ibm_cloud_iam.IbmCloudIamDetector,
        jwt.JwtTokenDetector,
        mailchimp.MailchimpDetector,
        npm.NpmDetector,
        openai.OpenAIDetector,
        private_key.PrivateKeyDetector,
        pypi_token.PypiTokenDetector,
        sendgrid.SendGridDetector,
        slack.SlackDetector,
        square_oauth.SquareOAuthDetector,
        stripe.StripeDetector,
        telegram_token.TelegramBotTokenDetector,
        twilio.TwilioKeyDetector,
    )
    return {str(plugin.secret_type): tuple(plugin().denylist) for plugin in plugins}


@cache
def keyword_patterns() -> tuple[Mapping[re.Pattern[str], int], Mapping[re.Pattern[str], int]]:
    """detect-secrets' patterns of assignments to something called a secret, with the group of the value: those that
    want quotes, and those that do not.
    """
    from detect_secrets.plugins import keyword  # noqa: PLC0415

    quoted = keyword.QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP
    config = keyword.CONFIG_DENYLIST_REGEX_TO_GROUP
    plain = {pattern: group for pattern, group in config.items() if pattern not in quoted}
    return quoted, plain
