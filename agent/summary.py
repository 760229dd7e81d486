"""What remains of exchanges that no longer fit: in the model's own words where it can find any, else their beginnings.

Owns that one question to the model, which is bounded and offers no tools. Refuses to fail: a bad summary is a digest.
"""

from dataclasses import replace

from agent.dialects.curtain import Curtain
from agent.hearing import Hearing
from agent.prompts import Prompts
from agent.state import Reply, Silence
from agent.toolbox import Toolbox
from agent.window import Past, dialogue, digest
from thaud.domain import Message
from thaud.errors import ModelError
from thaud.serving.runtime import Runtime
from tools.sanitise import clean

MODEL_FROM_TOKENS = 2048  # below it models are too young to summarise, and a context has little room for it
SHARE_OF_CONTEXT = 16


def summarise(runtime: Runtime, toolbox: Toolbox, prompts: Prompts, before: str, past: Past) -> str:
    """The summary of a summary and of the exchanges after it. Empty where the context is too small for any.

    Raises ServerError; Ctrl-C goes through.
    """
    plain = digest(before, past, runtime.context_tokens)
    if runtime.context_tokens < MODEL_FROM_TOKENS or not plain:
        return plain
    said = dialogue(before, past, prompts, runtime.context_tokens)
    try:
        reply = ask(runtime, toolbox, prompts.summarise.format(dialogue=said))
    except ModelError:
        return plain
    summary = " ".join(clean(reply.text).split())
    return summary if reply.done == "stop" and summary else plain


def ask(runtime: Runtime, toolbox: Toolbox, request: str) -> Reply:
    """One reply that nobody looks at. Its text is what would be shown: a call is no summary."""
    hearing = Hearing(Silence(), Curtain(toolbox), runtime.context_tokens)
    most = runtime.context_tokens // SHARE_OF_CONTEXT
    reply = hearing.listen(runtime.chat([Message("user", request)], max_new_tokens=most))
    return replace(reply, text=hearing.shown)
