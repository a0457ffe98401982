"""Baselines and untrained networks on an endpoint: what it is asked, and who may not use one."""

from typing import Any

import pytest

from endpoints import Answer, completion, faking
from helpers import CHATML, byte_tokenizer, make_backbone
from neuromas.baselines import BASELINES, names
from neuromas.baselines.chat import Chat
from neuromas.baselines.direct import NetworkDialogue, untrained
from neuromas.baselines.endpoint import EndpointChat
from neuromas.baselines.load import load_baseline
from neuromas.baselines.moa import MixtureOfAgents
from neuromas.compare.spec import Spec
from neuromas.errors import BackboneError, ConfigError
from neuromas.network.backbone import Backbone, load_frozen
from neuromas.network.endpoint import Endpoint
from neuromas.network.forward import Limits, Network
from neuromas.network.prompt import PromptTemplate, words
from neuromas.network.sampling import Decoding
from neuromas.network.topology import Topology
from neuromas.network.wording import Words
from neuromas.prompt_config import PromptConfig
from neuromas.tasks import load_task
from neuromas.types import Message, Question

QUESTION = Question("q", "What is 1+1?", "2", instruction="Reply with a number.", answer_prefix="It is ")


def test_the_words_of_a_call_are_those_of_a_local_chat_prompt() -> None:
    tokenizer = byte_tokenizer(CHATML)
    template = PromptTemplate(tokenizer, "chat", 4096)
    topology = Topology.parse("2-1@first")
    for node in topology.nodes:
        at = topology.position(node)
        said, wording = [f"I am {u}" for u in at.upstream], Words.of(None, "chat").at(at, 8)
        messages = [Message(u, text) for u, text in zip(at.upstream, said, strict=True)]
        prompt = template.render(at, QUESTION, messages, 8, wording)
        read = tokenizer.decode(prompt.prefix_ids + prompt.own_ids)
        turns = [f"system\n{wording.ask}", f"user\n{words(at, QUESTION, said, wording)}"]
        begun = QUESTION.answer_prefix if at.is_output else ""
        assert read == "".join(f"<|im_start|>{turn}<|im_end|>\n" for turn in turns) + "<|im_start|>assistant\n" + begun


def test_an_untrained_network_as_a_dialogue_is_the_network() -> None:
    backbone, limits, how = make_backbone(style="plain"), Limits(5, 5), Decoding(temperature=0.9)
    topology = Topology.parse("2-1@first+skip")
    network = Network.create(topology, backbone, limits=limits, decoding=how)
    for greedy in (True, False):
        dialogue = NetworkDialogue(Chat(backbone, limits, how), topology, "untrained")
        (mine,) = dialogue.answer([QUESTION], greedy=greedy, seed=3)
        (theirs,) = network.answer([QUESTION], greedy=greedy, seed=3)
        assert mine.answer == theirs.answer and mine.sequential_calls == theirs.sequential_calls == 3
        assert [(c.node, c.text) for c in mine.calls] == [(c.node, c.text) for c in theirs.calls]


def test_an_untrained_network_is_asked_in_the_words_of_the_recipe() -> None:
    prompt, task = PromptConfig(hidden="Think.", place="none", message="Note"), load_task("compositional", depth=2)
    with faking(lambda asked, before: completion("7")) as (fake, name):
        system = load_baseline("untrained", load_frozen(name), task, Limits(7, 9), None, prompt, topology="1")
        system.answer([QUESTION])
    assert fake.texts[0] == ("Think.", "What is 1+1?")
    assert fake.texts[1][1].endswith("\nNote: 7")
    local = load_baseline("untrained", make_backbone(style="plain"), task, Limits(7, 9), None, prompt, topology="1")
    assert isinstance(local, Network) and local.words.hidden == "Think."


def test_messages_go_along_the_edges_and_tokens_are_the_endpoints_own() -> None:
    def script(asked: dict[str, Any], before: int) -> Answer:
        system = asked["messages"][0]["content"]
        text = "two" if "final answer" in system else "heard"
        return completion(text, completion_tokens=before + 1)

    with faking(script) as (fake, name):
        chat = EndpointChat(Endpoint(name), Limits(7, 9))
        (trace,) = untrained(chat, "2").answer([QUESTION])
    assert [c.node for c in trace.calls] == ["1.1", "1.2", "out"]
    system, user = fake.texts[2]
    assert "final answer" in system and user == (
        "What is 1+1?\nReply with a number.\nMessage from node 1.1: heard\nMessage from node 1.2: heard"
    )
    assert all("number" not in user for _, user in fake.texts[:2]), "the instruction is the answering node's alone"
    assert trace.answer == "two", "no prefix is put before what the model did not begin with it"
    assert (trace.prompt_tokens, trace.generated_tokens) == (33, 1 + 2 + 3)
    assert trace.sequential_tokens == 2 + 3 and trace.sequential_calls == 2
    assert [a["max_tokens"] for a in fake.asked] == [7, 7, 9]
    assert {a["model"] for a in fake.asked} == {"org/model"} and {a["temperature"] for a in fake.asked} == {0.0}


def test_each_sample_has_a_seed_of_its_own_and_the_same_one_again() -> None:
    with faking(lambda asked, before: completion("2")) as (fake, name):
        chat = EndpointChat(Endpoint(name), Limits(7, 9), Decoding(temperature=0.7, top_p=0.9))
        for _ in range(2):
            untrained(chat, "1").answer([QUESTION], greedy=False, seed=1, rollouts=2)
    seeds = [a["seed"] for a in fake.asked]
    assert len(set(seeds)) == 4 and sorted(seeds[:4]) == sorted(seeds[4:]) and max(seeds) < 2**31
    assert {(a["temperature"], a["top_p"]) for a in fake.asked} == {(0.7, 0.9)}


def test_proposals_are_sampled_in_greedy_evaluation_and_the_synthesis_is_not() -> None:
    with faking(lambda asked, before: completion("2")) as (fake, name):
        MixtureOfAgents(EndpointChat(Endpoint(name)), agents=3).answer([QUESTION])
    assert [a["temperature"] for a in fake.asked] == [1.0, 1.0, 1.0, 0.0]
    assert len({a["seed"] for a in fake.asked[:3]}) == 3


@pytest.mark.parametrize("name", [n for n in names(trained=False) if not BASELINES[n].listed])
def test_every_baseline_that_only_writes_runs_on_an_endpoint(name: str) -> None:
    task = load_task("compositional", train_size=20, validation_size=10, test_size=10)
    with faking(lambda asked, before: completion("1: 2. The answer is 3")) as (fake, backbone):
        system = load_baseline(name, load_frozen(backbone), task, Limits(20, 20))
        traces = system.answer(task.questions("test")[:2])
    assert len(traces) == 2 and sum(len(t.calls) for t in traces) == len(fake.asked)
    assert all(t.generated_tokens == 3 * len(t.calls) for t in traces) and backbone in system.name


def test_what_needs_weights_or_log_probabilities_says_so() -> None:
    name = "openai:http://127.0.0.1:1/v1#m"
    with pytest.raises(BackboneError, match="neither be trained nor score text"):
        Backbone.load(name)
    task = load_task("compositional", train_size=20, validation_size=10, test_size=10)
    with pytest.raises(ConfigError, match="log-probabilities"):
        load_baseline("logit", load_frozen(name), task, Limits())
    with pytest.raises(ConfigError, match="no device, dtype or style"):
        load_frozen(name, device="cpu")
    shared = {"backbone": {"name": name}, "tasks": [{"name": "compositional"}]}
    with pytest.raises(ConfigError, match=r"systems\.net is trained"):
        Spec.make({**shared, "systems": {"net": {"topology": "2"}}})
    with pytest.raises(ConfigError, match="log-probabilities"):
        Spec.make({**shared, "systems": {"logit": {}}})
    assert Spec.make({**shared, "systems": {"moa": {}}}).backbone.name == name
