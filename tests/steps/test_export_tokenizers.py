"""Training, llama.cpp piece by piece, and llama.cpp on the whole text make the same tokens, for each structure."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.testkit.tiny_models import write_tiny_base
from tests.testkit.tiny_tokenizers import SPACE, TOKENIZERS, sentencepiece_model, sentencepiece_tokenizer
from thaud.domain import Message
from thaud.errors import ModelError
from thaud.rendering import Piece
from thaud.steps.contract import ExportSpec
from thaud.steps.export.metadata import special_ids
from thaud.steps.export.sentencepiece import read_pieces
from thaud.steps.export.vocabulary import read_vocabulary
from thaud.steps.export.writer import write_gguf
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import BaseTokenizer, one_day, read_tokenizer
from thaud.steps.tokenizer_structure import Structure, structure_of

SAID = (
    ("¿De qué color es el cielo?", "El cielo es azul."),
    ("  two spaces  before\n\n\nand lines\tand tabs ", "The sun is yellow 🌞, niño."),
    ("What is 1234567 + 89?", "2 + 2 = 4. <think>hm</think> Sí."),
    ("I've been told HE'S there", "<tool_call>\n{}\n</tool_call>"),
    ("漢字 and ▁ and \u00a0 and e\u0301", "No."),
)
TYPED = "typed: </s> <s> <|eot_id|> <|im_end|> <unk> <0x0A> <|begin_of_text|>"
METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": False}


def conversation(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role, text) for turn in turns for role, text in zip(("user", "assistant"), turn, strict=True)]


def export(base: Path, out: Path) -> Path:
    spec = ExportSpec(base_dir=str(base), adapter_dir=None, out=str(out), kind="f16", name="tiny", context_tokens=512)
    write_gguf(spec, lambda _done, _total: None)
    return out


@pytest.fixture(scope="module", params=TOKENIZERS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, LlamaModel]]:
    """A base's tokenizer, and the file's."""
    folder = tmp_path_factory.mktemp("words")
    base = write_tiny_base(folder / "base", kind="llama", words=request.param)
    with LlamaModel(export(base, folder / "model.gguf"), 512) as served:
        yield read_tokenizer(base), served


@pytest.mark.parametrize("turns", [(said,) for said in SAID] + [SAID])
def test_training_and_file_make_the_same_tokens(
    both: tuple[BaseTokenizer, LlamaModel], turns: tuple[tuple[str, str], ...]
) -> None:
    """Prompts and lessons have the same ids by tokenizer.json and by the file, in pieces and as one text."""
    trained, served = both
    messages = conversation(*turns)
    for ours, theirs in (
        (trained.renderer.prompt(messages[:-1]), served.renderer.at(one_day).prompt(messages[:-1])),
        (trained.renderer.lesson(messages), served.renderer.at(one_day).lesson(messages)),
    ):
        assert ours == theirs
        ids = trained.encode_all(ours)
        assert served.encode(theirs) == ids
        assert served._tokenize("".join(piece.text for piece in ours), special=True) == ids


def test_typed_control_tokens_stay_text(both: tuple[BaseTokenizer, LlamaModel]) -> None:
    """Control tokens that a person types are characters like any other, in training and by the file."""
    trained, served = both
    pieces = [Piece(TYPED, control=False, supervised=False)]
    ids = trained.encode_all(pieces)
    assert served.encode(pieces) == ids
    assert not {trained.ids[text] for text in trained.control} & set(ids)


def test_an_answer_after_text_begins_with_no_space(both: tuple[BaseTokenizer, LlamaModel]) -> None:
    """What goes on after plain text has no space put before it, encoded with what precedes it or apart."""
    trained, served = both
    header, answer = (Piece(text, control=False, supervised=False) for text in ("ask\n", "El cielo"))
    together = trained.encode_all([header, answer])
    apart = trained.encode_all([header]) + trained.encode_all([answer], continues=True)
    assert together == apart == served.encode([header, answer])
    assert served.encode([answer], continues=True) == trained.encode_all([answer], continues=True)
    first = trained.encode(answer, continues=True)[0]
    assert not next(text for text, number in trained.ids.items() if number == first).startswith(SPACE)


def test_tokenizer_model_is_read_as_its_own_library_reads_it() -> None:
    """Our reader of tokenizer.model gives the library's texts, scores and kinds."""
    import sentencepiece  # noqa: PLC0415 - as in tiny_tokenizers

    read = sentencepiece.SentencePieceProcessor()
    read.LoadFromSerializedProto(sentencepiece_model())
    rows = read_pieces(sentencepiece_model())
    assert [(row.text, row.score) for row in rows] == [
        (read.IdToPiece(number), read.GetScore(number)) for number in range(read.GetPieceSize())
    ]
    kinds = {2: read.IsUnknown, 3: read.IsControl, 5: read.IsUnused, 6: read.IsByte}
    assert all(test(number) == (row.kind == kind) for number, row in enumerate(rows) for kind, test in kinds.items())
    with pytest.raises(ModelError, match=r"tokenizer\.model is damaged"):
        read_pieces(sentencepiece_model()[:-3])


def spelled(**changes: Any) -> BaseTokenizer:
    """The SentencePiece tokenizer without its file; `changes` to its tokenizer.json."""
    definition = json.loads(sentencepiece_tokenizer().backend_tokenizer.to_str())
    return BaseTokenizer({**definition, **changes}, {"bos_token": "<s>", "eos_token": "</s>"}, {}, "")


@pytest.mark.parametrize(
    ("changes", "settings", "prefix"),
    [
        ({}, {}, True),
        ({}, {"add_prefix_space": True}, True),
        ({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}}, {}, False),
        ({"normalizer": None, "pre_tokenizer": METASPACE}, {}, True),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "first"}}, {}, True),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "never"}}, {}, False),
    ],
)
def test_the_space_before_a_text_is_told_from_the_structure(
    changes: Mapping[str, Any],
    settings: Mapping[str, Any],
    prefix: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Older normalisers and Metaspace in each of its schemes say whether text is begun with a space."""
    tokenizer = spelled(**changes)
    assert structure_of(tokenizer.definition, settings) == Structure("sentencepiece", space_prefix=prefix)
    starts = [
        tokenizer.encode(Piece("El", control=False, supervised=False), continues=after) for after in (False, True)
    ]
    assert (starts[0] != starts[1]) is prefix


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"normalizer": None}, {}),
        ({"normalizer": {"type": "NFKC"}}, {}),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "split": True}}, {}),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "replacement": "_"}}, {}),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "sometimes"}}, {}),
        ({"pre_tokenizer": METASPACE}, {}),
        ({}, {"add_prefix_space": False}),
    ],
)
def test_an_unknown_way_with_spaces_fails_closed(changes: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Whatever llama.cpp would do otherwise with spaces is refused, not guessed."""
    with pytest.raises(ModelError, match="not one that is known"):
        structure_of(spelled(**changes).definition, settings)


def without_a_way(model: dict[str, Any]) -> None:
    del model["merges"][40]


def without_a_byte(model: dict[str, Any]) -> None:
    model["vocab"]["byte ten"] = model["vocab"].pop("<0x0A>")


def with_typed_end(model: dict[str, Any]) -> None:
    for text in ("<", "/", "s", ">", "</", "s>"):
        model["vocab"].setdefault(text, len(model["vocab"]) + 100)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_a_way, "leave out a way"),
        (without_a_byte, "256 bytes"),
        (with_typed_end, "out of typed text"),
    ],
)
def test_merges_that_llama_cpp_would_do_otherwise_are_refused(
    change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    """llama.cpp's SentencePiece merges whatever makes a token, by score; another list of merges is refused."""
    tokenizer = spelled()
    read_vocabulary(tokenizer, 1000)
    model = json.loads(json.dumps(tokenizer.definition["model"]))
    change(model)
    with pytest.raises(ModelError, match=reason):
        read_vocabulary(spelled(model=model), 1000)


def test_merges_in_another_order_than_the_scores_are_refused() -> None:
    """Where tokenizer.model has the scores, the merges of tokenizer.json must be in their order."""
    tokenizer = spelled()
    model = json.loads(json.dumps(tokenizer.definition["model"]))
    files = [{**tokenizer.definition, "model": model}, {}, {}, ""]
    read_vocabulary(BaseTokenizer(*files, sentencepiece_model()), 1000)
    model["merges"].append(model["merges"].pop(0))
    with pytest.raises(ModelError, match="order of its tokens"):
        read_vocabulary(BaseTokenizer(*files, sentencepiece_model()), 1000)


def test_two_files_of_different_tokenizers_are_refused() -> None:
    """tokenizer.model must have the tokens of tokenizer.json: scores of others would merge otherwise."""
    tokenizer = spelled()
    vocabulary = dict(tokenizer.definition["model"]["vocab"])
    one, other = list(vocabulary)[300:302]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    model = {**tokenizer.definition["model"], "vocab": vocabulary}
    mixed = BaseTokenizer({**tokenizer.definition, "model": model}, {}, {}, "", sentencepiece_model())
    with pytest.raises(ModelError, match="take both from one place"):
        read_vocabulary(mixed, 1000)


def test_special_tokens_have_their_ids() -> None:
    """Ids come from the settings; what the base does not name is stood for, and an end must be named."""
    tokenizer = spelled()
    assert special_ids(tokenizer) == {"bos": 1, "eos": 2, "pad": 2}
    with pytest.raises(ModelError, match="end-of-turn"):
        special_ids(BaseTokenizer(tokenizer.definition, {}, {}, ""))
