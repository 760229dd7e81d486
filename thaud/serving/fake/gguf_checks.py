"""What create asks of an uploaded GGUF, and what `llama-quantize COPY` makes of it on the new generation."""

from pathlib import Path

from thaud.errors import ModelError
from thaud.serving.fake.protocol import Refusal
from thaud.serving.fake.store import Store
from thaud.serving.gguf_header import ALIGNMENT, FLOAT32, UINT32, Header, is_gguf, read_header

ARCHITECTURES = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "smollm3", "mistral3"}
QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
QUANTIZE_FAILED = (
    "failed to validate GGUF with llama-quantize without compatibility patches: llama-quantize failed: exit status 1"
)
WIDE = {0: "F32", 1: "F16", 32: "BF16"}


def stored(store: Store, digest: str) -> Path:
    """An uploaded blob. Raises Refusal (inside the stream) where there is none."""
    try:
        path = store.blob(digest)
    except Refusal:
        raise Refusal(500, "invalid digest format") from None
    if not path.exists():
        raise Refusal(500, f"open {path}: no such file or directory")
    return path


def parsed(path: Path) -> Header:
    """A GGUF's header. Raises Refusal in the server's words."""
    if not is_gguf(path):
        raise Refusal(400, "supplied file was not in GGUF format")
    try:
        return read_header(path)
    except ModelError as error:
        raise Refusal(500, str(error)) from error


def refuse_quantize(kind: str | None, header: Header) -> None:
    """The fake quantizes nothing: a file's own type is no change, what the real one refuses is refused in its words."""
    if not kind:
        return
    typed = kind.upper()
    if typed not in {*QUANTIZATIONS, "BF16", "Q4_K"}:
        raise Refusal(500, f"unsupported quantization type {typed} - supported types are {', '.join(QUANTIZATIONS)}")
    has = WIDE.get(header.get("general.file_type", -1))
    if has == typed:
        return
    if has is None:
        raise Refusal(500, "quantization is only supported for F16, BF16 and F32 models")
    raise Refusal(500, "the fake server does not quantize: send a file of the type you want")


def rewritten(store: Store, path: Path, header: Header) -> tuple[str, bool]:
    """What `llama-quantize COPY` makes of a file: checked, two keys moved to the end. Twice is the same as once."""
    check_for_quantizer(header)
    data = path.read_bytes()
    moved = ("general.quantization_version", "general.file_type")
    kept = b"".join(data[entry.start : entry.end] for key, entry in header.entries.items() if key not in moved)
    quantization = key_value("general.quantization_version", 2)
    file_type = key_value("general.file_type", header.get("general.file_type", 1025))
    count = len([key for key in header.entries if key not in moved]) + len(moved)
    head = data[:16] + count.to_bytes(8, "little") + kept + quantization + file_type
    head += data[header.info_start : header.info_end]
    head += b"\0" * (-len(head) % 32)
    weights = max((tensor.offset + tensor.nbytes for tensor in header.tensors), default=0)
    return store.keep(head + data[header.data_start : header.data_start + weights])


def key_value(key: str, value: int) -> bytes:
    """A UINT32 metadata entry."""
    return len(key).to_bytes(8, "little") + key.encode() + UINT32.to_bytes(4, "little") + value.to_bytes(4, "little")


def check_for_quantizer(header: Header) -> None:
    """Raises Refusal on what makes llama-quantize give up."""
    if header.alignment != ALIGNMENT:
        end = header.data_start + header.alignment + sum(tensor.nbytes for tensor in header.tensors)
        last = header.tensors[-1].name
        raise Refusal(500, f'tensor "{last}" offset+size ({end}) exceeds file size ({header.file_size})')
    architecture = header.get("general.architecture")
    required = {
        f"{architecture}.context_length": UINT32,
        f"{architecture}.embedding_length": UINT32,
        f"{architecture}.block_count": UINT32,
        f"{architecture}.feed_forward_length": UINT32,
        f"{architecture}.attention.head_count": UINT32,
        f"{architecture}.attention.layer_norm_rms_epsilon": FLOAT32,
    }
    wrong = [key for key, kind in required.items() if key not in header.entries or header.entries[key].kind != kind]
    if architecture not in ARCHITECTURES or wrong:
        raise Refusal(500, QUANTIZE_FAILED)
