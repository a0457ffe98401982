"""No text becomes a marker, whatever the tokenizer: none of the ids of special and added tokens comes of it."""

import functools
import random
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from neuromas.network.prompt import PromptTemplate
from neuromas.types import Message, Position, Question

CORPUS = ["the cat sat on the mat <m> end of turn [mark] 123 + 45 = x", "ＡＢ full width", "hello world ünïcödé"] * 20
MARKERS = {
    "plain": ["<m>", "</m>", "[mark]"],
    "overlapping": ["<m>", "m><", "><m", "<m><m>", "k]", "[mark]"],
    "another's end": ["mark]", "[mark]", "k"],
    "one character": ["★", "<", "m"],
}
FLAGS: dict[str, dict[str, Any]] = {
    "as it is": {"normalized": False},
    "normalized": {"normalized": True},
    "stripping": {"normalized": True, "lstrip": True, "rstrip": True},
    "single words": {"normalized": True, "single_word": True},
}
TEXTS = [
    "<m>", "</m>", "[mark]", "[MARK]", "<M>", "＜ｍ＞", "［ｍａｒｋ］", "<m><m>", "<<m>m>", "m>m><m>", "a<m> b",
    "a <m>b", "[mark]k]", "★", "a★b", "[ mark ]", "<\u200bm>", "ｍ", "the cat", "  <m>  ", "<m>\n[mark]", "ⓜ", "<ⓜ>",
]  # fmt: skip


def random_texts(n: int) -> list[str]:
    chance = random.Random(0)
    parts = ["<", "m", ">", "[", "mark", "]", "k", "M", "＞", " "]
    return ["".join(chance.choice(parts) for _ in range(8)) for _ in range(n)]


@functools.cache
def core(kind: str) -> str:
    """A trained tokenizer of that kind, as JSON."""
    made: Any
    match kind:
        case "bytes":
            made = Tokenizer(models.BPE())
            made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
            trainer: Any = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        case "sentencepiece":
            made = Tokenizer(models.BPE(unk_token="<unk>"))
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"])
        case "unigram":
            made = Tokenizer(models.Unigram())
            made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
            trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", "</m>"], unk_token="<unk>")
        case "wordpiece":
            made = Tokenizer(models.WordPiece(unk_token="<unk>"))
            made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
            trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["<unk>", "[mark]"])
        case _:
            made = Tokenizer(models.WordLevel(unk_token="<unk>"))
            made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
            trainer = trainers.WordLevelTrainer(special_tokens=["<unk>"])
    made.train_from_iterator(CORPUS, trainer)
    return made.to_str()


def tokenizer(kind: str, markers: str, flags: str, special: bool) -> Any:
    made = Tokenizer.from_str(core(kind))
    added = [AddedToken(marker, special=special, **FLAGS[flags]) for marker in MARKERS[markers]]
    (made.add_special_tokens if special else made.add_tokens)(added)
    unknown = "<unk>" if made.token_to_id("<unk>") is not None else None
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=unknown)


def marker_ids(made: Any) -> set[int]:
    return {*made.get_added_vocab().values(), *made.all_special_ids} - {made.unk_token_id}


@pytest.mark.parametrize("kind", ["bytes", "sentencepiece", "unigram", "wordpiece", "wordlevel"])
@pytest.mark.parametrize("markers", MARKERS)
def test_no_text_becomes_a_marker(kind: str, markers: str) -> None:
    would = 0
    for flags in FLAGS:
        for special in (True, False):
            made = tokenizer(kind, markers, flags, special)
            template, ids = PromptTemplate(made, "plain", 500), marker_ids(made)
            for text in (*TEXTS, *random_texts(20)):
                would += not ids.isdisjoint(made(text, add_special_tokens=False).input_ids)
                assert ids.isdisjoint(got := template.encode(text)), (flags, special, text, got)
    assert would > 50  # without care they do


def test_messages_and_questions_of_a_prompt_hold_none() -> None:
    made = tokenizer("unigram", "overlapping", "normalized", True)
    template = PromptTemplate(made, "plain", 2000)
    position = Position("out", 2, 1, 1, 2, ("1.1",), ())
    for text in TEXTS:
        prompt = template.render(position, Question("q", text, ""), [Message("1.1", text)], 8)
        assert marker_ids(made).isdisjoint([*prompt.prefix_ids, *prompt.own_ids]), text


def test_text_without_markers_is_encoded_as_ever_and_text_with_them_reads_as_written() -> None:
    made = tokenizer("bytes", "overlapping", "normalized", False)
    template = PromptTemplate(made, "plain", 500)
    for text in ("the cat sat", "123 + 45", "hello\nworld"):
        assert template.encode(text) == made(text, add_special_tokens=False).input_ids
    for text in TEXTS:
        assert made.decode(template.encode(text)) == text


def test_a_long_text_of_markers_takes_no_longer_than_its_length() -> None:
    template = PromptTemplate(tokenizer("bytes", "overlapping", "normalized", True), "plain", 500)
    assert len(template.encode("[mark]k]" * 2000)) >= 8000
