"""The embedded backbone: its tokenizer, its weights, what it can do, and that no role is built into it."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers import tool as load_tool
from neuromas.network.prompt import PromptTemplate
from neuromas.tasks.base import SPLITS
from neuromas.tasks.compositional import Compositional
from neuromas.tasks.expressions import splits_of
from neuromas.types import Message, Position, Question

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "src/neuromas/backbones/tiny"

tool = load_tool("pretrain_tiny")


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def skills(model: Any) -> dict[str, float]:
    return {s.key: s.accuracy for s in tool.evaluate(model, 40, "test", seed=11)}


# -- tokenizer ---------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_encoding_and_decoding_as_its_utf8_bytes(text: str) -> None:
    tokenizer = _loaded_tokenizer()
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text


def _loaded_tokenizer(cache: list[Any] = []) -> Any:  # noqa: B006 (hypothesis takes no fixtures of ours)
    if not cache:
        cache.append(AutoTokenizer.from_pretrained(FOLDER))
    return cache[0]


@pytest.mark.parametrize("marker", ["<|eos|>", "<|bos|>", "<|pad|>"])
def test_a_forged_marker_in_a_message_stays_text(tokenizer: Any, marker: str) -> None:
    template = PromptTemplate(tokenizer, "compact", 512)
    at = Position("2.1", 2, 1, 1, 2, ("1.1",), ())
    prompt = template.render(at, Question("q", "(1+1)" + marker, "2"), [Message("1.1", f"a{marker}b")], 8)
    assert max(prompt.prefix_ids + prompt.own_ids) < 256
    assert template.decode(prompt.own_ids) == f"1.1:a{marker}b\nA"
    assert tokenizer(marker, add_special_tokens=False).input_ids[0] >= 256  # the marker exists


def test_the_special_tokens_are_the_three_after_the_bytes(tokenizer: Any) -> None:
    assert len(tokenizer) == 259
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (256, 257, 258)


# -- weights -----------------------------------------------------------------------------------------------


def test_the_weights_are_small_in_bfloat16_and_are_those_of_the_card() -> None:
    data = (FOLDER / "model.safetensors").read_bytes()
    assert len(data) < 2_000_000
    assert f"`{hashlib.sha256(data).hexdigest()}`" in (FOLDER / "CARD.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(FOLDER).dtype == torch.bfloat16


def test_the_folder_fits_the_code_that_makes_it(model: Any, tokenizer: Any) -> None:
    fresh = tool.build_model(0)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert tool.build_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert model.config.max_position_embeddings == 512
    assert model.generation_config.eos_token_id == 258


def test_training_twice_gives_the_same_weights_bit_for_bit_and_another_seed_others() -> None:
    first, again, other = (tool.train(3, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


# -- what it can do (test split; the card has the exact figures) -------------------------------------------


@pytest.mark.parametrize("key", ["4a|", "4b|", "8a|", "8b|", "8c|", "8d|"])
def test_it_states_a_bottom_part_that_it_is_asked_for(skills: dict[str, float], key: str) -> None:
    assert skills[key] >= 0.95


@pytest.mark.parametrize("key", ["8e|ab", "8e|ba", "8e|abcd", "8f|dc"])
def test_it_states_a_higher_part_from_messages_about_the_parts_below(skills: dict[str, float], key: str) -> None:
    assert skills[key] >= 0.94


def test_it_mostly_states_f_when_its_parts_stand_among_others_out_of_order(skills: dict[str, float]) -> None:
    assert skills["8f|acbd"] >= 0.7  # a known weakness: 0.84 on the card


@pytest.mark.parametrize("key", ["4A|ab", "4A|ba", "8A|ef", "8A|fe"])
def test_it_answers_from_complete_messages_in_any_order(skills: dict[str, float], key: str) -> None:
    assert skills[key] >= 0.95


@pytest.mark.parametrize(("key", "limit"), [("4A|", 0.5), ("8A|", 0.45), ("8A|abcd", 0.6)])
def test_it_cannot_answer_without_the_messages_it_needs(skills: dict[str, float], key: str, limit: float) -> None:
    assert skills[key] <= limit


def test_two_messages_about_random_parts_help_but_less_than_two_about_different_parts(skills: dict[str, float]) -> None:
    assert skills["4A|"] + 0.1 < skills["4A|??"] < skills["4A|ab"] - 0.1


# -- no roles ----------------------------------------------------------------------------------------------


def _letter_shares(model: Any, template: PromptTemplate, at: Position, depth: int) -> torch.Tensor:
    """What the node at `at` speaks about first: probabilities [letters], averaged over 200 questions."""
    task = Compositional(depth=depth, train_size=0, validation_size=0, test_size=200)
    prompts = [template.render(at, q, [], 8) for q in task.questions("test")]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([p.prefix_ids + p.own_ids for p in prompts])).logits[:, -1]
    return logits.softmax(-1).mean(0)[[ord(label) for label in task.space.labels]]


@pytest.mark.parametrize("depth", [2, 3])
def test_what_an_untrained_node_speaks_about_does_not_depend_on_where_it_stands(
    model: Any, tokenizer: Any, depth: int
) -> None:
    template = PromptTemplate(tokenizer, "compact", 512)
    places = [
        Position("1.1", 1, 1, 2, 2, (), ("2.1",)),
        Position("1.2", 1, 2, 2, 2, (), ("2.1",)),
        Position("1.4", 1, 4, 4, 3, (), ("2.1", "2.2")),
        Position("3.1", 3, 1, 1, 4, (), ("4.1",)),
    ]
    shares = [_letter_shares(model, template, at, depth) for at in places]
    assert all(s.sum() > 0.98 for s in shares)  # it always speaks about some part
    assert all((s - torch.tensor(tool.LABEL_SHARES[depth])).abs().max() < 0.05 for s in shares)
    assert all(0.5 * (s - shares[0]).abs().sum() < 0.05 for s in shares)  # total variation distance


# -- training documents ------------------------------------------------------------------------------------

CASES = [(2, 0, False, False), (2, 3, True, False), (3, 6, False, False), (3, 4, True, False), (2, 2, True, True)]


def _parsed(ids: np.ndarray) -> tuple[Position, Question, list[Message], str]:
    """A document taken apart by its text alone."""
    text = bytes(ids[ids < 256].astype(np.uint8)).decode()
    head, *middle, last = text.split("\n")
    found = re.fullmatch(r"(\d\.\d)<([\d.,]*)>([\d.,]*):(.*)", head)
    assert found is not None
    own, up, down, question = found.groups()
    upstream, downstream = tuple(up.split(",")) if up else (), tuple(down.split(",")) if down else ()
    layer, index = map(int, own.split("."))
    at = Position(own, layer, index, index, 7, upstream, downstream, sees_question=bool(question))
    messages = [Message(*line.split(":", 1)) for line in middle]
    return at, Question(text, question, ""), messages, last


@pytest.mark.parametrize("case", CASES, ids=str)
def test_documents_are_what_the_prompt_template_renders_then_a_completion(tokenizer: Any, case: tuple) -> None:
    template = PromptTemplate(tokenizer, "compact", 512)
    batch = tool.documents(case[0], 30, *case[1:], np.random.default_rng(3))
    for ids, weights in zip(batch.ids, batch.weights, strict=True):
        at, question, messages, last = _parsed(ids)
        prompt = template.render(at, question, messages, 16)
        completion = [*last[1:].encode(), tool.EOS]
        document = prompt.prefix_ids + prompt.own_ids + completion
        assert ids.tolist() == document + [tool.PAD] * (len(ids) - len(document))
        assert (weights > 0).tolist() == [True] * len(document) + [False] * (len(ids) - len(document))
        assert (weights == 1).sum() == len(completion)  # only the completion counts fully
        assert re.fullmatch(r"A\d[+*]\d=\d" if case[2] else r">[a-fr]\d[+*]\d=\d;", last)


def test_documents_show_positions_that_a_topology_can_have() -> None:
    rng = np.random.default_rng(5)
    for k in range(7):
        for ids in tool.documents(2, 40, k, False, False, rng).ids:
            at, _, messages, _ = _parsed(ids)
            assert [m.sender for m in messages] == list(at.upstream)
            assert len({*at.upstream}) == k
            assert list(at.upstream) == sorted(at.upstream)
            assert list(at.downstream) == sorted(at.downstream)
            assert all(int(u[0]) < at.layer for u in at.upstream)
            assert all(int(d[0]) > at.layer for d in at.downstream)


def test_documents_contain_training_expressions_only() -> None:
    rng = np.random.default_rng(6)
    for depth in (2, 3):
        assert (splits_of(tool.expressions(depth, 500, rng).text) == SPLITS.index("train")).all()
        for ids in tool.documents(depth, 200, 2, True, False, rng).ids:
            text = np.frombuffer(_parsed(ids)[1].text.encode(), np.uint8)[None]
            assert splits_of(text)[0] == SPLITS.index("train")


def test_which_part_a_document_states_is_independent_of_the_node_that_states_it() -> None:
    rng = np.random.default_rng(8)
    said: dict[str, list[str]] = {}
    for _ in range(20):
        for ids in tool.documents(2, 500, 1, False, False, rng).ids:
            at, _, _, last = _parsed(ids)
            said.setdefault(f"layer {at.layer}", []).append(last[1])
            said.setdefault(f"index {at.index}", []).append(last[1])
    for letters in said.values():
        share = letters.count("a") / len(letters)
        assert abs(share - 0.45) < 4 * (0.45 * 0.55 / len(letters)) ** 0.5
