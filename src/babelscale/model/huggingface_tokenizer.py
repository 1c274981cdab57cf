"""A SentencePiece BPE model in Hugging Face's own format, with the same ids for every text.

Three choices make the ids the same. Pieces are written with a space where SentencePiece writes U+2581, so that U+2581
itself is in no piece and is spelt in bytes, as babelscale spells it. The end-of-line token is written as the newline it
stands for, so that a text of many lines gives the stream that models are trained on. And no other token is matched as a
whole: `</s>` or `<unk>` in a text are letters.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from babelscale.errors import InputError

MODEL, FAST, CONFIGURATION = "tokenizer.model", "tokenizer.json", "tokenizer_config.json"
NEWLINE = "\n"
_SPACE = "\u2581"


def write(model: bytes, folder: Path, positions: int) -> None:
    """Write tokenizer.model, tokenizer.json and tokenizer_config.json.

    Args:
        model: a SentencePiece model as babelscale trains it.
        positions: tokens of the longest sequence that the language model was trained on.

    Raises:
        InputError: the model cannot be written so that all ids stay the same.
    """
    (folder / MODEL).write_bytes(model)
    (folder / FAST).write_text(json.dumps(fast(model), ensure_ascii=False) + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": NEWLINE,
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
    }
    (folder / CONFIGURATION).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def size(model: bytes) -> int:
    """Number of tokens."""
    return _processor(model).vocab_size()


def end_of_line(model: bytes) -> int:
    """Id of the token after each line."""
    return _processor(model).eos_id()


def fast(model: bytes) -> dict[str, Any]:
    """What tokenizer.json says.

    Raises:
        InputError: the model is no BPE with byte fallback, changes the text before it splits it, or has a piece whose
            characters are no pieces themselves.
    """
    processor = _processor(model)
    size, newline = processor.vocab_size(), processor.eos_id()
    vocabulary: dict[str, int] = {}
    learned: list[str] = []
    for token in range(size):
        piece = processor.id_to_piece(token)
        if token == newline:
            piece = NEWLINE
        elif not (processor.is_byte(token) or processor.is_control(token) or processor.is_unknown(token)):
            piece = piece.replace(_SPACE, " ")
            learned.append(piece)
        vocabulary[piece] = token
    _check(processor, learned)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": newline,
                "content": NEWLINE,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": False,
            }
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": list(_merges(learned)),
        },
    }


def _merges(learned: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs to join, first come first served.

    SentencePiece joins the neighbours whose union is the piece learned first, however that piece was put together; so
    every way to cut a piece in two pieces is a merge, in the order of the pieces.
    """
    known = set(learned)
    for piece in learned:
        for cut in range(1, len(piece)):
            if piece[:cut] in known and piece[cut:] in known:
                yield piece[:cut], piece[cut:]


def _processor(model: bytes) -> Any:
    import sentencepiece

    sentencepiece.set_min_log_level(2)
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(model)
    except RuntimeError as error:
        raise InputError(f"not a SentencePiece model ({error})", hint="give a tokenizer that babelscale made") from None
    return processor


def _check(processor: Any, learned: list[str]) -> None:
    """Refuse what the other format cannot say exactly."""
    hint = "train the tokenizer with babelscale"
    tokens = range(processor.vocab_size())
    if sum(processor.is_byte(token) for token in tokens) != 256 or processor.eos_id() < 0:
        raise InputError("the tokenizer lacks byte fallback or an end-of-line token", hint=hint)
    # BPE numbers its pieces 0, -1, -2 ... in the order learned; other kinds of model store probabilities.
    scores = [processor.get_score(processor.piece_to_id(piece.replace(" ", _SPACE))) for piece in learned]
    if scores != [-float(rank) for rank in range(len(scores))]:
        raise InputError("the tokenizer is not BPE with its pieces in the order in which they were learned", hint=hint)
    probe = "  ﬁ  e\u0301 "
    if processor.normalize(probe) != probe.replace(" ", _SPACE):
        raise InputError("the tokenizer changes text before it splits it", hint=hint)
    known = set(learned)
    for piece in learned:
        if odd := next((character for character in piece if character not in known), None):
            raise InputError(f"the tokenizer has piece {piece!r} but none for {odd!r} alone", hint=hint)
