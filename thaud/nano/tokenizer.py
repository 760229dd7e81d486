"""nano's tokenizer and chat template: byte-level BPE with Qwen2's split, ChatML in our words.

Owns which tokens exist and how a conversation becomes text. Refuses a default system sentence, a BOS token and any
knowledge of weights. The BPE is learned from the pretraining corpus alone.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from thaud.nano import BASE_DIR
from thaud.nano.corpus import END_OF_TEXT, TURN_END, TURN_START

VOCABULARY: Final = 3072
MAX_POSITIONS: Final = 4096
SPECIAL: Final = (END_OF_TEXT, TURN_START, TURN_END)
MARKS: Final = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
QWEN2_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def chat_template() -> str:
    """Return the Jinja source that renders `messages` and `tools` as ChatML; the shipped file is the only copy."""
    return (BASE_DIR / "chat_template.jinja").read_text(encoding="utf-8")


def write_tokenizer(folder: Path, texts: Iterable[str]) -> None:
    """Learn the BPE from `texts` and write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_learn(texts), encoding="utf-8")
    config = json.dumps(_settings(), ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")
    template = chat_template()
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def _learn(texts: Iterable[str]) -> str:
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_special_tokens(list(SPECIAL))
    bpe.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return str(bpe.to_str(pretty=True))


def _settings() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": MAX_POSITIONS,
    }
