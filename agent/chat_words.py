"""What `thau chat` says around the conversation, in Spanish and in English. Owns words; refuses to print them.

How turns end and what happens on the way has its words in words.py.
"""

from dataclasses import dataclass

from agent.commands import Language


@dataclass(frozen=True, slots=True)
class ChatWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    welcome: str
    loading: str
    not_loaded: str
    no_tools: str
    workspace: str
    walls: str
    keys: str
    files: str
    allow: str
    confirm: str
    yes: tuple[str, ...]
    always: tuple[str, ...]
    always_from_now: str
    unknown_command: str
    did_you_mean: str
    error: str
    thinking: str
    working: str
    running: str
    thought: str
    more_lines: str
    nothing_folded: str
    no_such_fold: str
    speed: str
    thinks: str
    think_on: str
    think_off: str
    cannot_think: str
    say_on_or_off: str
    system_is: str
    no_system: str
    context: str
    nothing_to_undo: str
    undone: str
    nothing_to_retry: str
    nothing_to_teach: str
    not_changed: str
    proposed: str
    review: str
    no_answer_yet: str
    saved: str
    kept: str
    exported: str
    export_where: str
    exists: str
    nothing_said: str
    cleared: str
    version_line: str
    which_version: str
    switched: str
    same_version: str
    resumed: str
    unsafe: str
    no_chats: str
    questions: str
    one_question: str
    piped_cut: str
    piped_too_much: str
    piped_idle: str


SPANISH = ChatWords(
    welcome="{model} · /ayuda muestra qué se puede hacer · Ctrl-C detiene · Ctrl-D termina",
    loading="cargando {model}…",
    not_loaded="No se pudo cargar el modelo: {message}",
    no_tools="Sin herramientas: no caben en un contexto de {tokens} tokens.",
    workspace="Carpeta de trabajo: {path}",
    walls="Aislamiento de los programas: {name}",
    keys=(
        "Alt-Enter, Esc Enter o \\ al final: otra línea · Tab: completar · Ctrl-R: buscar en lo escrito · "
        "Ctrl-O: desplegar lo último"
    ),
    files="@nombre completa ficheros de {path}",
    allow="¿Permitir? [s]í, [N]o, s[i]empre esta llamada: ",
    confirm="¿Permitir? [s]í, [N]o: ",
    yes=("s", "si", "sí", "y", "yes"),
    always=("i", "siempre", "a", "always"),
    always_from_now="Permitida hasta el final de la conversación.",
    unknown_command="No existe {command}. /ayuda muestra los comandos.",
    did_you_mean="No existe {command}. ¿Querías decir {meant}? /ayuda muestra los comandos.",
    error="Error: {message}",
    thinking="pensando",
    working="leyendo",
    running="ejecutando",
    thought="pensó {seconds:.0f} s",
    more_lines="+{n} líneas",
    nothing_folded="No hay nada plegado.",
    no_such_fold="No hay nada plegado con el número {n}; hay de {first} a {last}.",
    speed="{speed:.1f} tok/s",
    thinks="piensa",
    think_on="El modelo piensa antes de responder.",
    think_off="El modelo responde sin pensar antes.",
    cannot_think="Este modelo no sabe pensar aparte: su plantilla no lo prevé.",
    say_on_or_off="Escribe /pensar on o /pensar off.",
    system_is="Se le dice antes de todo: {text}",
    no_system="No se le dice nada antes de todo.",
    context="Contexto: {filled} tokens ({percent} %), {questions}.",
    nothing_to_undo="Aún no hay nada que retirar.",
    undone="Retirada: {question}",
    nothing_to_retry="Aún no has preguntado nada.",
    nothing_to_teach="Aún no hay una respuesta que corregir o juzgar.",
    not_changed="Sin cambios: no se propone nada.",
    proposed="Propuesto para entrenar ({id}). `thau review` lo muestra y lo acepta.",
    review="Falta la respuesta correcta; `thau review` la pide.",
    no_answer_yet="Aún no hay una respuesta que guardar.",
    saved="Guardado en {path}",
    kept="La conversación está en {path}; sigue con `thau chat --resume {id}`.",
    exported="Conversación guardada en {path}",
    export_where="Escribe /exportar FICHERO (.md o .jsonl).",
    exists="{path} ya existe: elige otro nombre",
    nothing_said="Aún no se ha dicho nada.",
    cleared="Conversación nueva.",
    version_line="{mark} {n:>3}  {name}  {note}",
    which_version="Escribe /modelo N, con un número de versión.",
    switched="Ahora responde {model}; la conversación sigue.",
    same_version="Ya responde {model}.",
    resumed="Continúa la conversación de {when}: {title} ({questions})",
    unsafe=(
        "ATENCIÓN: --unsafe. Los programas que el modelo ejecute correrán SIN aislamiento, con tus permisos y con red. "
        "Se pregunta por cada llamada que ninguna regla permita: léela entera."
    ),
    no_chats="Aún no hay conversaciones.",
    questions="{n} preguntas",
    one_question="1 pregunta",
    piped_cut="De lo recibido por la tubería sobran {n:,} caracteres en un contexto de {tokens:,} tokens: se omiten.",
    piped_too_much="De lo recibido por la tubería se leen solo {bytes:,} bytes.",
    piped_idle="No llegó nada por la entrada estándar: se sigue sin ella (--stdin la espera, --no-stdin la ignora).",
)

ENGLISH = ChatWords(
    welcome="{model} · /help shows what can be done · Ctrl-C stops · Ctrl-D ends",
    loading="loading {model}…",
    not_loaded="The model could not be loaded: {message}",
    no_tools="No tools: they do not fit a context of {tokens} tokens.",
    workspace="The folder to work in: {path}",
    walls="Walls around programs: {name}",
    keys=(
        "Alt-Enter, Esc Enter or a \\ at the end: another line · Tab: complete · Ctrl-R: search what was typed · "
        "Ctrl-O: unfold the last one"
    ),
    files="@name completes files of {path}",
    allow="Allow it? [y]es, [N]o, [a]lways this call: ",
    confirm="Allow it? [y]es, [N]o: ",
    yes=("y", "yes"),
    always=("a", "always"),
    always_from_now="Allowed until the conversation ends.",
    unknown_command="There is no {command}. /help shows the commands.",
    did_you_mean="There is no {command}. Did you mean {meant}? /help shows the commands.",
    error="Error: {message}",
    thinking="thinking",
    working="reading",
    running="running",
    thought="thought for {seconds:.0f} s",
    more_lines="+{n} lines",
    nothing_folded="Nothing is folded.",
    no_such_fold="There is no {n} that is folded; there are {first} to {last}.",
    speed="{speed:.1f} tok/s",
    thinks="thinks",
    think_on="The model thinks before it answers.",
    think_off="The model answers without thinking first.",
    cannot_think="This model cannot think apart from answering: its template has no place for it.",
    say_on_or_off="Write /think on or /think off.",
    system_is="It is told before everything: {text}",
    no_system="It is told nothing before everything.",
    context="Context: {filled} tokens ({percent}%), {questions}.",
    nothing_to_undo="There is nothing to take back yet.",
    undone="Taken back: {question}",
    nothing_to_retry="You have not asked anything yet.",
    nothing_to_teach="There is no answer yet that could be corrected or judged.",
    not_changed="Nothing changed: nothing is proposed.",
    proposed="Proposed for training ({id}). `thau review` shows and accepts it.",
    review="The right answer is missing; `thau review` asks for it.",
    no_answer_yet="There is no answer yet that could be saved.",
    saved="Saved as {path}",
    kept="The conversation is in {path}; go on with `thau chat --resume {id}`.",
    exported="The conversation was written to {path}",
    export_where="Write /export FILE (.md or .jsonl).",
    exists="{path} is there already: choose another name",
    nothing_said="Nothing has been said yet.",
    cleared="New conversation.",
    version_line="{mark} {n:>3}  {name}  {note}",
    which_version="Write /model N, with the number of a version.",
    switched="{model} answers now; the conversation goes on.",
    same_version="{model} answers already.",
    resumed="Going on with the conversation of {when}: {title} ({questions})",
    unsafe=(
        "WARNING: --unsafe. Programs that the model runs will run WITHOUT walls, with your rights and the network. "
        "Each call that no rule allows is asked about: read all of it."
    ),
    no_chats="There are no conversations yet.",
    questions="{n} questions",
    one_question="1 question",
    piped_cut="Of what was piped in, {n:,} characters do not fit a context of {tokens:,} tokens: they are left out.",
    piped_too_much="Of what was piped in, only {bytes:,} bytes are read.",
    piped_idle="Nothing came on standard input: going on without it (--stdin waits for it, --no-stdin leaves it).",
)


def chat_words_in(language: Language) -> ChatWords:
    """The words of a language."""
    return SPANISH if language == "es" else ENGLISH


def counted(words: ChatWords, questions: int) -> str:
    """So many questions, in words."""
    return words.one_question if questions == 1 else words.questions.format(n=questions)
