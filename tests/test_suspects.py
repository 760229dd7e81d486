"""What looks like a secret: found wherever it stands, shown nowhere, and plain words and code left alone."""

import json
import time

import pytest

from tests.test_proposals import AT, ORIGIN, model, proposal_of, user
from thaud.domain import Example, Message, ToolCall
from thaud.proposals import Kind, Proposal, look_for_suspects, masked, masked_json

# Secrets: put together here, so that nobody's scanner takes this file for a leak

SECRETS = {
    "AWS Access Key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub Token": "ghp_" + "a1B2c3" * 6,
    "Slack Token": "xoxb-" + "123456789012-1234567890123-" + "abcdefGHIJKLmnop",
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\nq0Z\n-----END RSA PRIVATE KEY-----",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "SflKxwRJSMeKKF2QT4",
    "Basic Auth Credentials": "postgres://ana:" + "pa55w0rd@servidor/db",
    "Google API Key": "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
}
ASSIGNED = {
    "Secret Keyword": ('password = "hunter22"', "hunter22"),
    "Hex High Entropy String": ("API_SALT=" + "9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
    "Base64 High Entropy String": ("SALT=" + "q3J8vXz1LmN0pR7tYw2K", "q3J8vXz1LmN0pR7tYw2K"),
}


@pytest.mark.parametrize(("kind", "secret"), SECRETS.items())
@pytest.mark.parametrize("around", ["{}", "mi clave es {}, guárdala", 'x = "{}"', "línea\n{}\notra"])
def test_a_secret_is_found_and_masked_whole(kind: str, secret: str, around: str) -> None:
    """Wherever it stands; its kind and place are kept, and no part of it is shown."""
    found = proposal_of(user(around.format(secret)), model("Vale."))
    assert kind in {each.kind for each in found.suspects}
    assert {each.place for each in found.suspects} == {"messages[0].content"}
    shown = masked(around.format(secret))
    assert not any(part in shown for part in secret.split("\n"))
    assert secret[:8] not in shown
    assert secret[-8:] not in shown
    assert not any(part in json.dumps(found.to_json()["suspects"]) for part in secret.split("\n"))


@pytest.mark.parametrize(("kind", "assigned", "secret"), [(kind, *each) for kind, each in ASSIGNED.items()])
def test_an_assignment_of_disorder_is_found(kind: str, assigned: str, secret: str) -> None:
    """Passwords by their name, keys by their entropy, in any text and behind any amount of it."""
    for text in (assigned, f"export {assigned}", "palabra " * 2000 + assigned):
        found = proposal_of(user(text), model("Vale."))
        assert kind in {each.kind for each in found.suspects}, text[:80]
        assert secret not in masked(text)


SAID = (
    ("La contraseña es {}", "Verano2024!"),
    ("contraseña del wifi: {}", "gato-negro-77"),
    ("la clave de acceso: {}", "Tr0ub4dor&3"),
    ("usuario: ana, clave: {}", "p4nter4"),
    ("el PIN es {}", "4821"),
    ("the password is {}, keep it", "hunter2"),
    ("contraseña\uff1a {}", "hunter2x"),
    ("redis://:{}@redis.local:6379/0", "mypassword99"),
    ("curl -u admin:{} https://x", "S3cr3t!"),
    ("Authorization: Basic {}", "YWxhZGRpbjpvcGVuc2VzYW1l"),
)


@pytest.mark.parametrize(("sentence", "secret"), SAID)
def test_a_secret_that_is_said_in_a_sentence_is_found(sentence: str, secret: str) -> None:
    """As people write it to a chat, in Spanish and English."""
    found = proposal_of(user(sentence.format(secret)), model("Vale."))
    assert found.suspects
    assert secret.rstrip("!") not in masked(sentence.format(secret))


@pytest.mark.parametrize(
    "flood", ["password" + " " * 100_000, "key" * 30_000, "clave de la " * 9_000, "://a:b" * 9_000]
)
def test_no_text_keeps_the_search_for_long(flood: str) -> None:
    """The regexes of others are shown short stretches: with blanks alone one of them took minutes."""
    began = time.process_time()
    assert masked(flood) == flood
    assert time.process_time() - began < 10


def test_every_place_is_looked_into() -> None:
    """Calls, tools, results, the rejected answer: a secret hides nowhere."""
    secret = SECRETS["AWS Access Key"]
    call = Message("assistant", "", (ToolCall("f", {"a": {"b": [secret], secret: 1}, "password": "gato"}),))
    tools = ({"type": "function", "function": {"name": "f", "description": secret}},)
    turns = (user("x"), call, Message("tool", f"uno\n{secret}", tool_name="f"), model("y"))
    example = Example(turns, tools, group=secret, metadata={"password": "gatito"})
    proposal = Proposal("", AT, Kind.GOOD, example, ORIGIN, model(secret))
    places = {(each.place, each.line) for each in look_for_suspects(proposal)}
    assert places == {
        ("messages[1].tool_calls[0].a", 1),
        ("messages[1].tool_calls[0].password", 1),
        ("messages[2].content", 2),
        ("rejected.content", 1),
        ("tools", 1),
        ("metadata", 1),
        ("group", 1),
    }
    shown = json.dumps(masked_json(proposal.to_json()), ensure_ascii=False)
    assert secret not in shown
    assert "gato" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "la contraseña es obligatoria y el secreto: ser paciente",
        "https://es.wikipedia.org/wiki/Anexo:Ciudades_por_poblacion",
        "/usr/lib/python3.11/site-packages/transformers/models",
        "El 15% de 349.90 es 52.485",
        "def calcular_promedio_de_los_valores(lista_de_numeros): return sum(lista_de_numeros)",
        "7b0c9c3a-0c4a-4d9b-9d8f-2f1b6c2f5a11",
        "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        'password = input("Password: ")',
        'password = os.environ["DB_PASSWORD"]',
        "def check_password(password: str) -> bool:",
        "API_KEY=your_api_key_here",
        "token = pedir_token_v2(cliente)",
        "la clave del éxito es la constancia",
        "ordenados = sorted(d, key=str.lower)",
    ],
)
def test_plain_words_are_no_secret(text: str) -> None:
    """False alarms are borne, but not with every sentence."""
    assert look_for_suspects(proposal_of(user(text), model("Vale."))) == ()
    assert masked(text) == text
