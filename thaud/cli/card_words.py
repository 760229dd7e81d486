"""What a model card says, in Spanish and in English. Refuses figures: model_card.py fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass

from thaud.words import ES as SPANISH
from thaud.words import Words


@dataclass(frozen=True, slots=True)
class CardWords:
    """Every phrase of one language. Braces name the values that `str.format` fills in."""

    what: str
    merged: str
    on_base: str
    base_nano: str
    base_hub: str
    base_folder: str
    made: str
    run_heading: str
    run_new: str
    run_old: str
    run_no_old: str
    run_llama: str
    run_template: str
    exam_heading: str
    exam_how: str
    exam_none: str
    exam_columns: tuple[str, ...]
    own_age: str
    earlier_age: str
    recall: str
    training_heading: str
    training_how: str
    columns: tuple[str, str]
    rows: Mapping[str, str]
    by_age: str
    certificate_heading: str
    certificate_how: str
    certificate_none: str
    certificate_failed: str
    certificate_columns: tuple[str, ...]
    kl: str
    checks: Mapping[str, tuple[str, str]]
    passed: Mapping[bool, str]
    limits_heading: str
    limits: Mapping[str, str]
    files_heading: str
    files_columns: tuple[str, ...]
    licence_heading: str
    licence: str
    licence_nano: str


ES = CardWords(
    what=(
        "Un modelo de lenguaje pequeño y local, el número {n} de la familia `{family}`: {base} más lo que aprendió de"
        " {examples} ejemplos. Lo entrenó, lo examinó y lo aceptó THAU el {date}, a la edad {age} ({stage}):"
        " {description}"
    ),
    merged="El modelo entero está en un solo archivo, `{file}` ({kind}, {size}).",
    on_base=(
        "Son dos archivos: `base.gguf` es la base ({base_size}) y `adapter.gguf` lo aprendido, un adaptador LoRA"
        " ({size}) que se aplica sobre ella."
    ),
    base_nano="la base `nano` de THAU (3,9 millones de parámetros, forma de Qwen2)",
    base_hub="la base `{base}`",
    base_folder="una base propia de quien lo entrenó (la carpeta `{base}`)",
    made=(
        "Entrenado con THAU {thau}, que hace crecer modelos por etapas con nombre de edades humanas: la edad dice hasta"
        " dónde ha llegado este."
    ),
    run_heading="Cómo usarlo",
    run_new="Con Ollama 0.30 o posterior, en esta carpeta:",
    run_old="Con un Ollama anterior, que no ejecuta la plantilla del archivo:",
    run_no_old="Un Ollama anterior a 0.30 no puede ejecutar la plantilla de chat de este modelo.",
    run_llama="Con llama.cpp:",
    run_template=(
        "La plantilla de chat va dentro del archivo: no hace falta otra. El contexto con el que se entrenó y examinó es"
        " de {context} tokens. El examen se respondió con temperatura 0."
    ),
    exam_heading="Cuánto sabe",
    exam_how=(
        "Preguntas apartadas antes de entrenar y nunca enseñadas, hechas a este mismo archivo. Cada intervalo es el del"
        " 95% (Wilson): con pocas preguntas es ancho."
    ),
    exam_none="No hay examen de esta versión: no se sabe cuánto acierta.",
    exam_columns=("Qué", "Aciertos", "De", "Accuracy", "Intervalo del 95%"),
    own_age="edad {age} ({stage}), no enseñado",
    earlier_age="edad {age} ({stage}), anterior, no enseñado",
    recall="preguntas que sí se le enseñaron",
    training_heading="Cómo se entrenó",
    training_how="Un adaptador LoRA sobre la base, que no cambia. Lo que decidió el resultado, y lo que se midió:",
    columns=("Qué", "Valor"),
    rows={
        "run": "Entrenamiento",
        "base": "Base",
        "base_digest": "Digest de la base",
        "strategy": "Estrategia",
        "line": "Línea",
        "examples": "Ejemplos enseñados",
        "left": "Apartados; recortados",
        "seed": "Semilla",
        "learning_rate": "Tasa de aprendizaje",
        "epochs": "Épocas",
        "lora": "LoRA: rank, alpha",
        "batch_examples": "Ejemplos por paso",
        "context_tokens": "Contexto (tokens)",
        "precision": "Precisión",
        "steps": "Pasos; tokens",
        "loss": "Pérdida, primera -> última (nats por token)",
        "kl_to_base": "KL respecto a la base (nats por token)",
        "adapter_sha256": "SHA-256 del adaptador",
    },
    by_age="{n} de edad {age}",
    certificate_heading="Certificado",
    certificate_how=(
        "Antes de aceptarlo, THAU comparó este archivo con lo que se entrenó. Todo está en `certificate.json`."
    ),
    certificate_none="Esta versión es anterior a los certificados: nadie comparó el archivo con lo que se entrenó.",
    certificate_failed="El certificado no se aprobó: {reasons}.",
    certificate_columns=("Comprobación", "Resultado", "Aprobada"),
    kl="KL: cuánto se separan las predicciones de dos modelos, en nats por token; 0 es nada.",
    checks={
        "prompts": (
            "Entrenamiento y archivo escriben y trocean igual las conversaciones",
            "{equal} de {conversations}",
        ),
        "tokens": ("Los tokens que mandan significan lo mismo en ambos", "{checked} comprobados"),
        "contents": ("Cada peso y cada dato del archivo son los entrenados", "{tensors} tensores"),
        "fidelity": (
            "La primera elección del archivo es la del modelo entrenado",
            "{top1} de {positions} posiciones (mínimo {bar}); KL {kl}",
        ),
        "change": ("Lo aprendido está en el archivo", "parte {share} (mínimo {bar}); KL desde la base {kl_from_base}"),
        "stops": ("Las respuestas terminan por sí mismas", "{stopped} de {asked} (mínimo {bar})"),
        "tools": ("Una llamada a herramienta va y vuelve", "prometido: {promised}"),
    },
    passed={True: "sí", False: "no"},
    limits_heading="Límites",
    limits={
        "narrow": (
            "Sabe lo que dicen sus {examples} ejemplos y lo que ya sabía la base. Fuera de eso contesta igual de seguro"
            " y puede equivocarse: comprueba lo que importe."
        ),
        "few": "El examen de su edad tiene {n} preguntas: la accuracy verdadera puede estar entre {low} y {high}.",
        "unmeasured": "Nadie ha medido cuánto acierta a su edad.",
        "age": "Es un modelo de edad {age} ({stage}). No esperes más que eso: {description}",
        "context": "No se entrenó con conversaciones de más de {context} tokens; con más largas puede desvariar.",
        "forgotten": "De lo de edades anteriores puede haber olvidado lo que el examen no preguntó.",
        "tools": "No promete usar herramientas: su plantilla no las conoce.",
        "safety": "No tiene más medidas de seguridad que las de su base. No lo uses para decidir sobre personas.",
    },
    files_heading="Archivos",
    files_columns=("Archivo", "Bytes", "SHA-256"),
    licence_heading="Licencia",
    licence="La del modelo base ({base}): léela antes de compartirlo. Los ejemplos enseñados añaden las que tengan.",
    licence_nano="La de la base, `nano`: Apache-2.0. Los ejemplos enseñados añaden las condiciones que tengan.",
)

EN = CardWords(
    what=(
        "A small, local language model, number {n} of the family `{family}`: {base} and what it learned from"
        " {examples} examples. THAU trained, examined and accepted it on {date}, at age {age} ({stage}): {description}"
    ),
    merged="The whole model is one file, `{file}` ({kind}, {size}).",
    on_base=(
        "It is two files: `base.gguf` is the base ({base_size}), `adapter.gguf` what was learned, a LoRA adapter"
        " ({size}) that is applied to it."
    ),
    base_nano="THAU's own base `nano` (3.9 million parameters in the shape of Qwen2)",
    base_hub="the base `{base}`",
    base_folder="a base of its maker's own (the folder `{base}`)",
    made=(
        "Trained with THAU {thau}, which raises models in stages named after human ages: the age says how far this one"
        " has come."
    ),
    run_heading="How to run it",
    run_new="With Ollama 0.30 or newer, in this folder:",
    run_old="With an older Ollama, which does not run the file's own template:",
    run_no_old="An Ollama older than 0.30 cannot run this model's chat template.",
    run_llama="With llama.cpp:",
    run_template=(
        "The chat template is inside the file; it needs no other. The context that it was trained and examined with is"
        " {context} tokens. The exam was answered at temperature 0."
    ),
    exam_heading="What it knows",
    exam_how=(
        "Questions that were put aside before training and never taught, asked of this very file. Intervals are 95%"
        " (Wilson): with few questions they are wide."
    ),
    exam_none="There is no exam of this version: nobody knows how often it is right.",
    exam_columns=("What", "Right", "Of", "Accuracy", "95% interval"),
    own_age="age {age} ({stage}), not taught",
    earlier_age="age {age} ({stage}), earlier, not taught",
    recall="questions that it was taught",
    training_heading="How it was trained",
    training_how="A LoRA adapter on the base, which stays as it is. What decided the outcome, and what was measured:",
    columns=("What", "Value"),
    rows={
        "run": "Training run",
        "base": "Base",
        "base_digest": "Digest of the base",
        "strategy": "Strategy",
        "line": "Line",
        "examples": "Examples taught",
        "left": "Set aside; cut short",
        "seed": "Seed",
        "learning_rate": "Learning rate",
        "epochs": "Epochs",
        "lora": "LoRA: rank, alpha",
        "batch_examples": "Examples a step",
        "context_tokens": "Context (tokens)",
        "precision": "Precision",
        "steps": "Steps; tokens",
        "loss": "Loss, first -> last (nats a token)",
        "kl_to_base": "KL from the base (nats a token)",
        "adapter_sha256": "SHA-256 of the adapter",
    },
    by_age="{n} of age {age}",
    certificate_heading="Certificate",
    certificate_how=(
        "Before it was accepted, THAU compared this file with what had been trained. All of it is in"
        " `certificate.json`."
    ),
    certificate_none="This version is older than certificates: nobody compared the file with what was trained.",
    certificate_failed="The certificate was not passed: {reasons}.",
    certificate_columns=("Check", "Found", "Passed"),
    kl="KL: how far apart the predictions of two models lie, in nats a token; 0 is not at all.",
    checks={
        "prompts": ("Training and file write and tokenise conversations alike", "{equal} of {conversations}"),
        "tokens": ("Tokens that steer mean the same in both", "{checked} checked"),
        "contents": ("Every weight and setting in the file is as it was trained", "{tensors} tensors"),
        "fidelity": (
            "The file's first choice is the trained model's",
            "{top1} of {positions} positions (at least {bar}); KL {kl}",
        ),
        "change": (
            "What was learned is in the file",
            "share {share} (at least {bar}); KL from the base {kl_from_base}",
        ),
        "stops": ("Answers come to an end by themselves", "{stopped} of {asked} (at least {bar})"),
        "tools": ("A tool call makes the round trip", "promised: {promised}"),
    },
    passed={True: "yes", False: "no"},
    limits_heading="Limits",
    limits={
        "narrow": (
            "It knows what its {examples} examples say and what the base knew already. Beyond that it answers just as"
            " surely and may be wrong: check what matters."
        ),
        "few": "The exam of its age has {n} questions: the true accuracy may be anywhere from {low} to {high}.",
        "unmeasured": "Nobody has measured how often it is right at its age.",
        "age": "It is a model of age {age} ({stage}). Expect no more than that: {description}",
        "context": "It was trained on no conversation longer than {context} tokens, and may ramble in longer ones.",
        "forgotten": "Of earlier ages it may have forgotten what the exam did not ask for.",
        "tools": "It promises no tools: its template does not know them.",
        "safety": "It has no safety measures but its base's. Do not use it to decide about people.",
    },
    files_heading="Files",
    files_columns=("File", "Bytes", "SHA-256"),
    licence_heading="Licence",
    licence=(
        "As the base model's ({base}): read it before you share this. The examples add what conditions they have."
    ),
    licence_nano="As the base's, `nano`: Apache-2.0. The examples add what conditions they have.",
)


def card_words(words: Words) -> CardWords:
    """Those of the same language."""
    return ES if words is SPANISH else EN
