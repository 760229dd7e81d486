"""Tokens kept between runs: they save time and may never change what is trained."""

import json
from pathlib import Path

import pytest

from tests.steps.doors import through_door
from tests.testkit.chat_templates import TEMPLATES, tokenizer_of
from tests.testkit.conversations import ANSWER, CONVERSATIONS, SUM, TURNS, USER, prepared, same
from thaud.domain import Example, Message, ToolCall
from thaud.failpoints import FAILPOINTS
from thaud.nano import BASE_DIR
from thaud.steps.contract import TrainSpec
from thaud.steps.tokenizer import BaseTokenizer, read_tokenizer
from thaud.steps.train.cache import SLOTS, VERSION, digest_of, file_in, key_of, load


@pytest.fixture(scope="module", params=sorted(TEMPLATES))
def tokenizer(request: pytest.FixtureRequest) -> BaseTokenizer:
    return tokenizer_of(request.param)


@pytest.fixture(scope="module")
def qwen2() -> BaseTokenizer:
    return tokenizer_of("qwen2")


def test_a_second_run_reuses_all_and_trains_the_same(tokenizer: BaseTokenizer, tmp_path: Path) -> None:
    """Tokens that were kept are those that would be made, and what was cut or set aside is so again."""
    examples = [*CONVERSATIONS.values(), Example((*TURNS, *TURNS))]
    fresh = prepared(tokenizer, *examples, context=70)
    for wanted in (0, len(examples) - len([each for each in fresh.aside if "refuses" in each.reason])):
        outcome = prepared(tokenizer, *examples, context=70, cache=tmp_path)
        assert outcome.reused == wanted
        assert outcome.complaint is None
        assert same(outcome.lessons, fresh.lessons)
        assert (outcome.aside, outcome.cut) == (fresh.aside, fresh.cut)


def test_another_context_uses_what_reaches_as_far(tokenizer: BaseTokenizer, tmp_path: Path) -> None:
    """Tokens do not depend on the context: a shorter one cuts them, a longer one makes anew what had been cut."""
    examples = [CONVERSATIONS["plain"], CONVERSATIONS["turns"], Example(TURNS * 20)]
    prepared(tokenizer, *examples, context=100, cache=tmp_path)
    for context, reused in ((100, 3), (20, 3), (60, 3), (4096, 2), (4096, 3)):
        outcome = prepared(tokenizer, *examples, context=context, cache=tmp_path)
        fresh = prepared(tokenizer, *examples, context=context)
        assert outcome.reused == reused
        assert same(outcome.lessons, fresh.lessons)
        assert (outcome.aside, outcome.cut) == (fresh.aside, fresh.cut)


def test_a_longer_context_before_changes_nothing_that_is_learned(tmp_path: Path) -> None:
    """Where a turn comes too late to fit, a run looks no further, whatever the run before it has looked at and kept."""
    qwen3 = tokenizer_of("qwen3")
    called = Message("assistant", f"<think>\n{'pienso ' * 30}\n</think>\n\n", (SUM,))
    example = Example((*(USER, *(called, Message("tool", "4")) * 3, ANSWER), *TURNS))
    for context in range(40, 700, 20):
        prepared(qwen3, example, context=4096, cache=tmp_path)
        outcome = prepared(qwen3, example, context=context, cache=tmp_path)
        fresh = prepared(qwen3, example, context=context)
        assert outcome.reused == 1
        assert same(outcome.lessons, fresh.lessons)
        assert (outcome.aside, outcome.cut) == (fresh.aside, fresh.cut)


def test_what_decides_tokens_is_in_the_digest(qwen2: BaseTokenizer) -> None:
    """Another template, token, merge or end of turn is another digest; another context length in the base is not."""
    grown = json.loads(json.dumps(qwen2.definition))
    grown["added_tokens"].append({**grown["added_tokens"][0], "id": 999, "content": "<|new|>"})
    unspecial = json.loads(json.dumps(qwen2.definition))
    unspecial["model"]["merges"] = unspecial["model"]["merges"][:-1]
    others = [
        BaseTokenizer(qwen2.definition, qwen2.settings, {}, qwen2.template + " "),
        BaseTokenizer(qwen2.definition, {"eos_token": "<|endoftext|>"}, {}, qwen2.template),
        BaseTokenizer(qwen2.definition, {**qwen2.settings, "bos_token": "<|im_start|>"}, {}, qwen2.template),
        BaseTokenizer(grown, qwen2.settings, {}, qwen2.template),
        BaseTokenizer(unspecial, qwen2.settings, {}, qwen2.template),
    ]
    assert len({digest_of(each) for each in (qwen2, *others)}) == 6
    same_one = BaseTokenizer(qwen2.definition, qwen2.settings, {"max_position_embeddings": 1}, qwen2.template)
    assert digest_of(same_one) == digest_of(qwen2)


def test_other_tokenizers_never_read_each_others_tokens(tmp_path: Path) -> None:
    """Where two share a file, the later takes it; neither sees what the other wrote, and there are few files."""
    for family in TEMPLATES:
        for number in range(8):
            made = tokenizer_of(family)
            made = BaseTokenizer(made.definition, made.settings, {}, f"{made.template}{{# {number} #}}")
            outcome = prepared(made, CONVERSATIONS["plain"], cache=tmp_path)
            assert outcome.reused == 0
            assert prepared(made, CONVERSATIONS["plain"], cache=tmp_path).reused == 1
    assert len(list(tmp_path.iterdir())) <= SLOTS


def test_the_order_of_fields_counts(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """Examples that differ in the order of arguments alone have one id and other tokens."""
    one, other = (
        Example((USER, Message("assistant", "", (ToolCall("f", arguments),))))
        for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    )
    assert one.id == other.id
    prepared(qwen2, one, cache=tmp_path)
    outcome = prepared(qwen2, other, cache=tmp_path)
    assert outcome.reused == 0
    assert same(outcome.lessons, prepared(qwen2, other).lessons)


def test_the_cache_holds_no_more_than_the_last_run(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """It shrinks when there is less to train, and what is not asked for any more is gone."""
    prepared(qwen2, *CONVERSATIONS.values(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    large = file.stat().st_size
    assert prepared(qwen2, CONVERSATIONS["plain"], cache=tmp_path).reused == 1
    assert file.stat().st_size < large / 4
    assert prepared(qwen2, *CONVERSATIONS.values(), cache=tmp_path).reused == 1


def test_a_damaged_cache_is_made_anew(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """Cut short, changed in any byte, or never ours: it is not read, the run is the same, and the next reuses all."""
    examples = [CONVERSATIONS["plain"], CONVERSATIONS["turns"]]
    fresh = prepared(qwen2, *examples, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    sound = file.read_bytes()
    flipped = [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(0, len(sound), 13)]
    for damaged in (b"", sound[:20], sound[:-1], sound + b"\0", b"\0" * len(sound), b"foreign" * 999, *flipped):
        file.write_bytes(damaged)
        outcome = prepared(qwen2, *examples, cache=tmp_path)
        assert (outcome.reused, outcome.complaint) == (0, None)
        assert same(outcome.lessons, fresh.lessons)
        assert file.read_bytes() == sound


def test_a_cache_that_cannot_be_is_done_without(qwen2: BaseTokenizer, tmp_path: Path) -> None:
    """A folder in its file's place, a file in its folder's: the run has its lessons and says what it did without."""
    wanted = prepared(qwen2, CONVERSATIONS["plain"]).lessons
    file_in(tmp_path, digest_of(qwen2)).mkdir()
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        outcome = prepared(qwen2, CONVERSATIONS["plain"], cache=folder)
        assert outcome.complaint is not None
        assert str(folder) in outcome.complaint
        assert same(outcome.lessons, wanted)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("point", ["before", "between", "after"])
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_full_disk_loses_the_cache_and_not_the_run(
    qwen2: BaseTokenizer, tmp_path: Path, point: str, action: str
) -> None:
    """Wherever the disk refuses while tokens are written, the lessons are there, and what was kept stays sound."""
    kept = prepared(qwen2, CONVERSATIONS["plain"], cache=tmp_path)
    FAILPOINTS.arm(f"file.tokens.{point}={action}")
    try:
        outcome = prepared(qwen2, *CONVERSATIONS.values(), cache=tmp_path)
    finally:
        FAILPOINTS.charges.clear()
        FAILPOINTS.on = False
    assert outcome.complaint is not None
    assert same(outcome.lessons, prepared(qwen2, *CONVERSATIONS.values()).lessons)
    shelf = load(tmp_path, digest_of(qwen2))
    assert shelf is not None
    assert shelf.find(key_of(CONVERSATIONS["plain"].content), 512) is not None
    assert len(kept.lessons) == 1


def test_the_version_is_raised_when_tokens_change() -> None:
    """If this fails, what is made of an example has changed (or nano's tokenizer): raise cache.VERSION, and write down
    the new digest.
    """
    nano = read_tokenizer(BASE_DIR)
    thinking = BaseTokenizer(nano.definition, nano.settings, nano.config, TEMPLATES["qwen3"])
    outcomes = [prepared(each, *CONVERSATIONS.values(), context=256) for each in (nano, thinking)]
    made = [[[*map(int, each.ids)], [*map(int, each.targets)]] for outcome in outcomes for each in outcome.lessons]
    assert (VERSION, key_of({"made": made}).hex()) == (1, "4a8ad88eb211f0c08d98600cb942981f")


@pytest.mark.slow
def test_the_door_reports_cuts_and_trains_the_same_from_a_cache(base: Path, tmp_path: Path) -> None:
    """What is cut or set aside is in the step's result; with kept tokens the adapter is the same, bit for bit."""
    examples = [CONVERSATIONS["plain"], Example(TURNS * 9), Example((Message("user", "palabra " * 300), ANSWER))]
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        file = folder / "examples.jsonl"
        rows = [{"id": f"id-{number}", **example.content} for number, example in enumerate(examples)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = TrainSpec(
            base_dir=str(base),
            examples=str(file),
            out_dir=str(folder / "adapter"),
            context_tokens=128,
            seed=1,
            learning_rate=1e-3,
            epochs=2,
            rank=4,
            alpha=8,
            threads=1,
            cache=str(tmp_path / "cache"),
            precision="fp32",
        )
        code, result, _ = through_door("train", spec, folder / "work")
        assert code == 0
        results.append(result)
    assert [each["id"] for each in results[0]["cut"]] == ["id-1"]
    assert "of 36 messages kept" in results[0]["cut"][0]["reason"]
    assert [each["id"] for each in results[0]["set_aside"]] == ["id-2"]
    for field in ("cut", "set_aside", "adapter_sha256", "tokens", "supervised_tokens"):
        assert results[0][field] == results[1][field]
    assert len(list((tmp_path / "cache").iterdir())) == 1
