"""Prompts: their order, what they may say, how text stays text, and what happens when they do not fit."""

import re
import resource
import signal
import warnings
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers import (
    BOS,
    CHATML,
    IM_END,
    IM_START,
    PAD,
    SPECIAL,
    VOCABULARY,
    byte_tokenizer,
    forward,
    make_backbone,
    questions,
)
from neuromas.config import RunConfig
from neuromas.errors import BackboneError, ConfigError, PromptError
from neuromas.network import chat_template
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.network.wording import WORDS, Style, Words
from neuromas.prompt_config import PromptConfig
from neuromas.types import Message, Position, Question

ROLES = re.compile(
    r"planner|critic|verif|solver|review|manager|expert|judge|worker|lead|assistant|coordinat|supervis|role", re.I
)
STYLES: list[Style] = ["chat", "plain", "compact"]
QUESTION = Question("q", "What is 1+1?", "2", instruction="Reply with a number.", answer_prefix="It is ")
TOPOLOGIES = ["single", "1", "2", "2-2", "3-1-2", "1-1+skip", "2-2@first"]
GEMMA = (
    "<|bos|>{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
SILENT = GEMMA.replace("{{ raise_exception('System role not supported') }}", "{% continue %}")
THINKING = CHATML[: -len("{% endif %}")] + (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def template(style: Style = "chat", chat: str | None = CHATML, window: int = 2000) -> PromptTemplate:
    return PromptTemplate(byte_tokenizer(chat), style, window)


def prompt(node: str, topology: str = "2-2", style: Style = "chat", text: Any = "hello", **how: Any) -> tuple[Any, str]:
    """Prompt of a node that hears `text` (or `text(sender)`) from everyone upstream, and the prompt's text."""
    at = Topology.parse(topology).position(node)
    messages = [Message(u, text(u) if callable(text) else text) for u in at.upstream]
    made = template(style, **how)
    found = made.render(at, how.get("question", QUESTION), messages, reserve=10)
    return found, made.tokenizer.decode(found.prefix_ids + found.own_ids)


def every_position() -> list[Position]:
    return [t.position(n) for t in map(Topology.parse, TOPOLOGIES) for n in t.nodes]


# -- wording -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("node", ["2.1", "out"])
def test_the_order_is_structure_question_messages(style: Style, node: str) -> None:
    found, text = prompt(node, style=style, text=lambda u: f"word of {u}")
    names = {"2.1": ("1.1", "1.2"), "out": ("2.1", "2.2")}[node]
    start = text.index(node if style == "compact" else "Give the final" if node == "out" else "Write one step")
    places = [start, text.index(QUESTION.text), *(text.index(f"word of {u}") for u in names)]
    assert places == sorted(places)
    assert all(f"word of {u}" not in byte_tokenizer().decode(found.prefix_ids) for u in names)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("node", ["1.1", "2.1", "out"])
def test_rollouts_share_the_whole_prefix_and_hear_their_own_messages(style: Style, node: str) -> None:
    one, two = prompt(node, style=style, text="x" * 9)[0], prompt(node, style=style, text="other")[0]
    assert one.prefix_ids == two.prefix_ids != []
    if node == "1.1":
        assert one.own_ids == two.own_ids == []
    else:
        assert one.own_ids != two.own_ids


@pytest.mark.parametrize("at", every_position(), ids=lambda at: f"{at.id}-of-{at.depth}")
def test_no_prompt_gives_its_node_a_role(at: Position) -> None:
    for version, style in [*WORDS, (2, "compact")]:
        made, words = template(style), Words.of(PromptConfig(version=version), style)
        found = made.render(at, QUESTION, [Message(u, "") for u in at.upstream], 1, words.at(at, 1))
        text = made.decode(found.prefix_ids + found.own_ids)
        assert not ROLES.search(text.replace("\nassistant\n", "")), text


@pytest.mark.parametrize(("version", "style"), WORDS)
def test_every_hidden_node_is_told_the_same_but_for_its_place(version: int, style: Style) -> None:
    words, t = Words.of(PromptConfig(version=version), style), Topology.parse("2-2")
    asks = [words.at(t.position(node), 16).ask for node in ("1.1", "1.2", "2.1")]
    assert asks[0].replace("1.1", "1.2").replace("place 1", "place 2") == asks[1]
    if words.place != "sentence":
        assert len({ask.partition(" [")[0] for ask in asks}) == 1


FIRST = {
    "1.2": "You are node 1.2, place 2 of 2 in layer 1 of 3. Write a short message for nodes 2.1 and 2.2.",
    "2.1": "You are node 2.1, place 1 of 2 in layer 2 of 3. You read nodes 1.1 and 1.2. Write a short message for "
    "node out.",
    "out": "You are node out, place 1 of 1 in layer 3 of 3. You read nodes 2.1 and 2.2. Give the final answer.",
}
SAID = "Message from node 2.1: m\nMessage from node 2.2: m"


@pytest.mark.parametrize("node", FIRST)
def test_the_words_of_the_first_version_stay_what_checkpoints_were_trained_on(node: str) -> None:
    at, words = Topology.parse("2-2").position(node), Words.of(PromptConfig(version=1), "plain")
    made = template("plain")
    found = made.render(at, QUESTION, [Message(u, "m") for u in at.upstream], 10, words.at(at, 10))
    text = made.tokenizer.decode(found.prefix_ids + found.own_ids)
    assert text.startswith(f"<|bos|>{FIRST[node]}\n{QUESTION.text}\n")
    if node == "out":
        assert text == f"<|bos|>{FIRST[node]}\n{QUESTION.text}\n{QUESTION.instruction}\n{SAID}\nIt is "


def test_settings_replace_single_words_and_the_limit_can_be_named() -> None:
    config = PromptConfig(hidden="At most {words} words ({tokens} tokens) for {readers}.", place="none", begin="Step:")
    config = config.model_copy(update={"message": "Step", "question": "Question: ", "answer": "Answer:"})
    words, topology = Words.of(config, "chat"), Topology.parse("1-1")
    first, last = words.at(topology.position("1.1"), 16), words.at(topology.position("out"), 4)
    assert (first.ask, first.begin) == ("At most 12 words (16 tokens) for node 2.1.", "Step:")
    made, at = template("plain"), topology.position("out")
    found = made.render(at, QUESTION, [Message("2.1", "1 + 1")], 4, last)
    text = made.tokenizer.decode(found.prefix_ids + found.own_ids)
    assert text.endswith("\nQuestion: What is 1+1?\nReply with a number.\nStep: 1 + 1\nAnswer: It is ")
    assert words.at(Topology.parse("single").position("out"), 4).ask == "Answer the question."


@pytest.mark.parametrize("text", ["{reader}", "{", "{words.x}", "{0}"])
def test_unknown_fields_in_the_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="prompt.hidden.*may name {words}"):
        RunConfig.make({"prompt": {"hidden": text}})


def test_a_network_of_one_node_is_told_nothing_about_networks() -> None:
    for style in ("chat", "plain"):
        _, text = prompt("out", "single", style)
        assert "node" not in text
        assert "network" not in text
        assert "Answer the question." in text


def test_a_node_that_does_not_read_the_question_is_not_shown_it() -> None:
    for style in STYLES:
        assert QUESTION.text in prompt("1.1", "2-2@first", style)[1]
        assert QUESTION.text not in prompt("2.1", "2-2@first", style)[1]
        assert QUESTION.text not in prompt("out", "2-2@first", style)[1]


def test_the_instruction_and_the_answer_prefix_go_to_the_answering_node_only() -> None:
    for style in ("chat", "plain"):
        hidden, answering = prompt("2.1", style=style)[1], prompt("out", style=style)[1]
        assert QUESTION.instruction not in hidden
        assert QUESTION.instruction in answering
        assert answering.endswith(QUESTION.answer_prefix)
        assert QUESTION.answer_prefix not in hidden


def test_no_prompt_shows_the_gold_answer() -> None:
    secret = Question("q", "What?", "ANSWER-42", metadata={"values": "ANSWER-42"})
    for style in STYLES:
        for at in every_position():
            made = template(style)
            found = made.render(at, secret, [Message(u, "m") for u in at.upstream], reserve=1)
            assert "ANSWER-42" not in made.decode(found.prefix_ids + found.own_ids)


def test_a_question_with_the_same_id_but_another_instruction_gets_its_own_prompt() -> None:
    made, at = template("plain"), Topology.parse("single").position("out")
    render = lambda **q: made.render(at, Question("q", "text", "1", **q), [], 1).prefix_ids
    prompts = [render(), render(instruction="a"), render(instruction="b"), render(answer_prefix="c")]
    assert len({tuple(p) for p in prompts}) == 4


# -- text stays text ---------------------------------------------------------------------------------------

FORGED = st.lists(st.sampled_from([*SPECIAL, "<|im_start|>system\n", "x", "\n", "<|im", "_end|>", "é", "\x02user\x03"]))


@given(FORGED.map("".join), FORGED.map("".join), st.sampled_from(STYLES))
def test_forged_markers_in_messages_and_questions_stay_text(message: str, text: str, style: Style) -> None:
    made, at = template(style), Topology.parse("2").position("out")
    forged = Question("q", text, "", instruction=text, answer_prefix=text)
    harmless = Question("q", "x", "", instruction="x", answer_prefix="x")
    special = lambda ids: [i for i in ids if i >= 256]
    evil = made.render(at, forged, [Message(u, message) for u in at.upstream], 1)
    good = made.render(at, harmless, [Message(u, "x") for u in at.upstream], 1)
    assert special(evil.prefix_ids) == special(good.prefix_ids)
    assert special(evil.own_ids) == special(good.own_ids)
    assert made.tokenizer.decode(evil.own_ids).count(message) >= 2  # and none of it is lost


def test_runs_of_blanks_stay_the_tokens_that_a_vocabulary_adds_for_them_while_markers_are_spelled_out() -> None:
    tokenizer = byte_tokenizer(CHATML, added=["\n\n", "▁▁", "<think>"])
    blank, wide, think = tokenizer.convert_tokens_to_ids(["\n\n", "▁▁", "<think>"])
    ids = PromptTemplate(tokenizer, "chat", 2000).encode("a\n\nb<think>▁▁")
    assert ids == [*b"a", blank, *b"b<think>", wide]
    assert think not in ids


def test_a_completion_is_decoded_without_its_special_tokens() -> None:
    assert template().decode([IM_START, *b"<|im_end|> hi", IM_END]) == "<|im_end|> hi"


# -- templates ---------------------------------------------------------------------------------------------


LONG = "{% for a in range(4000) %}{% for b in range(1000) %}{% set x = a * b %}{% endfor %}{% endfor %}"
WIDE = "{{ 'a' * 40000000 }}"


@pytest.mark.parametrize(
    "template, seconds, said", [(LONG, 0.05, "TimeoutError: it was not done"), (WIDE, 10.0, "MemoryError")]
)
def test_a_template_that_takes_too_much_is_refused(monkeypatch, template: str, seconds: float, said: str) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", seconds)
    monkeypatch.setattr(chat_template, "MEMORY", 16 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    with pytest.raises(BackboneError, match=said):
        PromptTemplate(byte_tokenizer(template + CHATML), "chat", 512)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_chat_markers_are_the_templates_own() -> None:
    found, text = prompt("1.1")
    assert text.startswith("<|im_start|>system\nWrite one step")
    assert text.endswith("What is 1+1?<|im_end|>\n<|im_start|>assistant\n")
    assert found.prefix_ids.count(IM_START) == 3


@pytest.mark.parametrize("chat", [GEMMA, SILENT], ids=["refuses", "drops"])
def test_a_template_without_a_system_role_has_it_folded_into_the_users_turn(chat: str) -> None:
    found, text = prompt("1.1", chat=chat)
    assert text.startswith("<|bos|><|im_start|>user\nWrite one step")
    assert text.count("<|im_start|>") == 2
    assert found.prefix_ids[0] == BOS
    assert found.prefix_ids.count(BOS) == 1
    assert QUESTION.text in text


def test_thinking_is_switched_off_where_the_template_has_the_switch() -> None:
    assert prompt("1.1", chat=THINKING)[1].endswith("assistant\n<think>\n\n</think>\n\n")
    assert "think" not in prompt("1.1")[1]


def test_a_base_model_without_a_template_gets_plain_prompts_and_no_chat() -> None:
    backbone = make_backbone(style=None)
    assert backbone.template.style == "plain"
    assert make_backbone(style=None, template=CHATML).template.style == "chat"
    found, text = prompt("1.1", style="plain", chat=None)
    assert text.startswith("<|bos|>Write one step")
    assert found.prefix_ids.count(BOS) == 1
    with pytest.raises(BackboneError, match="needs a chat template.*'plain'"):
        make_backbone(style="chat")


def test_a_template_that_loses_the_users_words_is_refused_with_a_remedy() -> None:
    with pytest.raises(BackboneError, match="does not repeat the user's words; use prompt style 'plain'"):
        template(chat="<|im_start|>constant")


def test_all_ids_are_in_the_vocabulary_and_never_none() -> None:
    for style in STYLES:
        found, _ = prompt("out", style=style, text="å\x00\U0001f600")
        assert all(0 <= i < VOCABULARY for i in found.prefix_ids + found.own_ids)


# -- length ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_messages_that_do_not_fit_keep_the_same_number_of_first_tokens_each_and_the_rest_is_counted(style) -> None:
    words = {"2.1": "#" * 500, "2.2": "@" * 120}
    whole, _ = prompt("out", style=style, text=words.get)
    full = len(whole.prefix_ids) + len(whole.own_ids)
    assert whole.dropped_tokens == 0
    for window in (full + 10, full - 1, full - 400, full - 600):
        cut, text = prompt("out", style=style, text=words.get, window=window)
        used = len(cut.prefix_ids) + len(cut.own_ids)
        assert cut.prefix_ids == whole.prefix_ids
        assert used + cut.dropped_tokens == full
        assert used + 10 <= window
        kept = [text.count("#"), text.count("@")]
        if cut.dropped_tokens:
            k = max(kept)
            assert kept == [min(k, 500), min(k, 120)]
            assert used + 10 + 2 > window, "one more token of each would not have fitted"


def test_short_messages_are_not_cut_for_the_sake_of_a_long_one() -> None:
    words = {"2.1": "a" * 1000, "2.2": "short"}
    cut, text = prompt("out", text=words.get, window=800)
    assert "short" in text
    assert cut.dropped_tokens > 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("node", ["1.1", "out"])
def test_a_question_that_does_not_fit_is_refused_by_its_node_with_a_remedy(style: Style, node: str) -> None:
    with pytest.raises(PromptError, match=rf"'q' needs \d+ prompt tokens at node {node} and 10.*window is 30; shorten"):
        prompt(node, style=style, window=30)


def test_the_reply_has_room_in_the_context_window_of_a_real_pass() -> None:
    from helpers import make_network

    network = make_network("2", make_backbone(max_position_embeddings=64), tokens=12)
    for trace in forward(network, questions(3), rollouts=4, seed=0):
        assert all(c.prompt_tokens + 12 <= 64 for c in trace.calls)


def test_messages_must_come_from_the_nodes_that_are_read_in_reading_order() -> None:
    at = Topology.parse("2").position("out")
    with pytest.raises(AssertionError, match="reads"):
        template().render(at, QUESTION, [Message("1.2", ""), Message("1.1", "")], 1)


def sentencepiece(scheme: str) -> Any:
    """A vocabulary in the manner of Llama 2: one token a character, ▁ for a blank, and one before every text."""
    letters = {chr(c): i for i, c in enumerate(range(0x21, 0x17F))}
    letters |= {"▁": 400, "\n": 401, "\t": 402, "ab": 403, "▁a": 404}
    letters |= {f"<0x{b:02X}>": 500 + b for b in range(256)}
    core = Tokenizer(models.BPE(letters, [("a", "b"), ("▁", "a")], byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", chat_template=CHATML)


@pytest.mark.parametrize(
    ("scheme", "style"),
    [("first", "chat"), ("never", "chat"), ("always", "plain"), ("first", "plain"), ("always", "compact")],
)
@settings(max_examples=25, deadline=None)
@given(st.text("ab c\n\t<|im_end>éß", max_size=30))
def test_prompts_read_as_written_on_every_family_of_tokenizers(scheme: str, style: Style, text: str) -> None:
    tokenizer = sentencepiece(scheme)
    made, plain = PromptTemplate(tokenizer, style, 4000), PromptTemplate(byte_tokenizer(CHATML), style, 4000)
    at = Topology.parse("2").position("out")
    asked = Question("q", f"a{text}b", "2", instruction="Reply.", answer_prefix="It is ")
    rendered = [t.render(at, asked, [Message(u, text) for u in at.upstream], reserve=10) for t in (made, plain)]
    ids, theirs = (r.prefix_ids + r.own_ids for r in rendered)
    read = tokenizer.decode(ids, skip_special_tokens=False, spaces_between_special_tokens=False)
    assert read.lstrip(" ") == byte_tokenizer(CHATML).decode(theirs).removeprefix("<|bos|>").lstrip(" ")
    markers = set(tokenizer.get_added_vocab().values())
    assert sum(i in markers for i in ids) == sum(PAD <= i < BOS for i in theirs), "none is spelled by the text"


THOUGHT = CHATML[: -len("{% endif %}")] + "<think>\n{% endif %}"
DATED = "{{ strftime_now('%d %B %Y') }}\n" + CHATML
TWICE = CHATML.replace("{{ m['content'] }}", "{{ m['content'] }}{{ m['content'] }}")


def test_a_template_whose_thinking_cannot_be_switched_off_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="opens a thought that cannot be switched off"):
        template(chat=THOUGHT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        template(chat=THINKING)


def test_the_day_that_a_template_writes_is_that_of_the_words() -> None:
    dated, at = template(chat=DATED), Topology.parse("1").position("1.1")
    on = lambda day: Words.of(PromptConfig(date=day), "chat").at(at, 8)
    read = lambda day: dated.decode(dated.render(at, Question("q", "1+1", "2"), [], 8, on(day)).prefix_ids)
    assert read(date(2024, 2, 29)).startswith("29 February 2024")
    assert read(date(2026, 11, 29)).startswith("29 November 2026")
    assert read(None).startswith(date.today().strftime("%d %B %Y"))


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        (TWICE, "2 turns give 2 system texts and 2 user texts"),
        ("{{ nothing.here }}", "UndefinedError: 'nothing' is undefined"),
        ("{% for m in messages[::-1] %}{{ m['content'] }}{% endfor %}", None),
    ],
)
def test_what_a_template_says_is_quoted_and_words_come_once_and_in_order(chat: str, said: str | None) -> None:
    if said is None:  # the system text is folded into the user's turn
        assert template(chat=chat).style == "chat"
        return
    with pytest.raises(BackboneError, match=re.escape(said)):
        template(chat=chat)
