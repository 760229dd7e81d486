"""Whether the file's answers come to an end, and whether a tool call of its template makes the round trip."""

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from thaud.domain import Example, Message
from thaud.errors import ModelError
from thaud.grading import parse_calls
from thaud.rendering import Piece
from thaud.steps.certify.conversations import ASKED, CALL, OTHER_RESULT, RESULT, SUM, TOOLS
from thaud.steps.contract import Emit
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import BaseTokenizer, one_day

ASKED_AT_MOST, JUDGED_FROM = 8, 4
STOPS_BAR = 0.5


def stops_section(
    model: LlamaModel, tokenizer: BaseTokenizer, examples: Sequence[Example], max_new_tokens: int, say: Emit
) -> dict[str, Any]:
    """Ask the first questions whose expected answers fit in `max_new_tokens`, greedily, as the exam does.

    Fewer than JUDGED_FROM say nothing about the file; that its end of turn ends an answer is in the section `tokens`.
    """
    questions = (question(model, tokenizer, example, max_new_tokens) for example in examples)
    prompts = list(islice(filter(None, questions), ASKED_AT_MOST))
    stopped = 0
    for number, prompt in enumerate(prompts, start=1):
        *_, (_, done) = model.generate(prompt, max_new_tokens)
        stopped += done == "stop"
        say("check", last=number == len(prompts), what="answers", done=number, total=len(prompts))
    return {
        "ok": len(prompts) < JUDGED_FROM or stopped >= STOPS_BAR * len(prompts),
        "asked": len(prompts),
        "stopped": stopped,
        "bar": STOPS_BAR,
    }


def question(model: LlamaModel, tokenizer: BaseTokenizer, example: Example, max_new_tokens: int) -> list[int] | None:
    """A prompt's ids; None where prompt and expected answer leave no room, or the template refuses it."""
    try:
        *_, turn = tokenizer.renderer.turns(example.messages, example.tools)
        prompt = model.encode(model.renderer.prompt(example.prompt, example.tools))
    except (ModelError, ValueError):
        return None
    expected = len(tokenizer.encode_all(piece for piece in turn.pieces if piece.supervised))
    fits = expected <= max_new_tokens and len(prompt) + expected <= model.context_tokens
    return prompt if fits else None


def tools_section(model: LlamaModel, tokenizer: BaseTokenizer) -> dict[str, Any]:
    """Write calls by the file's template, say them by llama.cpp, read them as calls, and show results.

    Said are the tokens that the base's tokenizer makes of a call, which a trained model says, and llama.cpp's own.
    """
    promised, detail = what_is_promised(model)
    if not promised:
        return {"ok": True, "promised": False, "detail": detail}
    wrong = "; ".join(wrong_trips(model, tokenizer))
    return {"ok": not wrong, "promised": True, "detail": wrong or detail}


def what_is_promised(model: LlamaModel) -> tuple[bool, str]:
    """Whether the file's template shows tools, and writes a call that is read as one, in text."""
    renderer = model.renderer.at(one_day)
    try:
        if renderer.render([ASKED], TOOLS) == renderer.render([ASKED]):
            return False, "the template shows no tools"
        text = "".join(piece.text for piece in said_pieces(model))
    except ModelError as error:
        return False, f"the template takes no tools: {error}"
    if parse_calls(text) != [CALL]:
        return False, "the template writes calls in another way than between <tool_call> and </tool_call>"
    return True, "a call was written, said and read back; one result and two were shown"


def said_pieces(model: LlamaModel) -> list[Piece]:
    """What the assistant says where it makes CALL, by the file's template. Raises ModelError where it refuses."""
    *_, turn = model.renderer.at(one_day).turns([ASKED, Message("assistant", "", (CALL,))], TOOLS)
    return [piece for piece in turn.pieces if piece.supervised]


def wrong_trips(model: LlamaModel, tokenizer: BaseTokenizer) -> Iterator[str]:
    """What does not come back as it was."""
    pieces = said_pieces(model)
    trained = tokenizer.encode_all(piece for piece in pieces if not piece.control or piece.text in tokenizer.ids)
    for ids in (trained, model.encode(pieces)):
        text = model.say(token for token in ids if token < model.vocabulary)
        if parse_calls(text) != [CALL]:
            yield f"a call of {CALL.name} comes back from llama.cpp as {text[:80]!r}, which is no such call"
            break
    if not model.is_end(ids[-1]):
        yield "generation would not end after a call"
    results = [Message("tool", text, tool_name=call.name) for call, text in ((CALL, RESULT), (SUM, OTHER_RESULT))]
    yield from unshown(model, (CALL,), results[:1])
    if len(shown_calls(model)) == 2:
        yield from unshown(model, (CALL, SUM), results)


def shown_calls(model: LlamaModel) -> Sequence[Any]:
    """Two calls of one turn, as the template shows them; nothing where it takes one a turn."""
    try:
        text = model.renderer.at(one_day).render([ASKED, Message("assistant", "", (CALL, SUM))], TOOLS)
    except ModelError:
        return ()
    return parse_calls(text[text.rindex(ASKED.content) :]) or ()


def unshown(model: LlamaModel, calls: Sequence[Any], results: Sequence[Message]) -> Iterator[str]:
    """The results that the next prompt does not show."""
    try:
        pieces = model.renderer.at(one_day).prompt([ASKED, Message("assistant", "", tuple(calls)), *results], TOOLS)
    except ModelError as error:
        yield f"the template refuses {len(results)} results of tools: {error}"
        return
    prompt = model.say(model.encode(pieces))
    for each in results:
        if unicodedata.normalize("NFC", each.content) not in prompt:
            yield f"the result {each.content!r} is not in the next prompt"
