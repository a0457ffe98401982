"""CoMLRL's REINFORCE trainer learning a problem: one JSON line per validation, as this project's learner prints.

Prompts, questions and grades are this project's (its tasks and templates need no torch), handed over through the
trainer's own hooks: formatters, reward function and, where nodes read each other, its turns. A layer is a turn; in
the turns of other layers an agent is asked again what it is asked in its own, since every agent speaks in every turn.
"""

import argparse
import json
import time
from functools import partial
from typing import Any

import torch
from comlrl.trainers.reinforce import MAREINFORCEConfig, MAREINFORCETrainer
from datasets import Dataset
from transformers import AutoTokenizer

from benchmarks.items.learning import config, options
from benchmarks.items.measure import padded
from benchmarks.items.peft import build
from benchmarks.problems import PROBLEMS, Problem
from neuromas.network.builtin import TINY_FOLDER, smollm2_folder
from neuromas.network.prompt import PromptTemplate
from neuromas.network.topology import Topology
from neuromas.tasks import load_task
from neuromas.train.schedule import Schedule
from neuromas.types import Message, Question


class Team:
    """The problem in the trainer's terms: agents are the nodes, in order; the last one answers."""

    def __init__(self, problem: Problem, tokenizer: Any) -> None:
        self.topology, self.task = Topology.parse(problem.topology), load_task(problem.task, **problem.options)
        self.template, self.tokenizer = PromptTemplate(tokenizer, problem.style, 512), tokenizer
        self.limit = max(problem.message_tokens, problem.answer_tokens or self.task.max_answer_tokens)
        self.asked: dict[str, Question] = {}  # by id
        self.turn = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self.topology.nodes)

    def ids(self, node: str, question: Question, said: dict[str, str]) -> list[int]:
        """Ids of a node's prompt; said: text of each node so far."""
        position = self.topology.position(node)
        messages = [Message(u, said.get(u, "")) for u in position.upstream]
        prompt = self.template.render(position, question, messages, reserve=self.limit)
        return prompt.prefix_ids + prompt.own_ids

    def prompt(self, node: str, question: Question, said: dict[str, str]) -> str:
        return self.tokenizer.decode(self.ids(node, question, said))

    # -- the trainer's hooks ------------------------------------------------------------------------------

    def formatter(self, item: dict[str, Any], external_prompts: str | None = None, *, node: str) -> str:
        if external_prompts is not None:
            return external_prompts
        self.turn = 0
        return self.prompt(node, self.asked[item["prompt"]], {})

    def transition(self, prompt: str, agent_completions: list[str], **_: Any) -> list[str]:
        """The next prompts of the agents, given what each has just said."""
        self.turn = 1
        said = dict(zip(self.nodes, agent_completions, strict=True))
        return [self.prompt(node, self.asked[prompt], said) for node in self.nodes]

    def reward(self, *completions: list[str], batch_items: list[dict[str, Any]]) -> list[float]:
        """The grade of the answer, in the last turn; nothing before."""
        if self.turn + 1 < len(self.topology.layers):
            return [0.0] * len(completions[-1])
        question = self.asked[batch_items[0]["prompt"]]
        return [self.task.grade(question, question.answer_prefix + text).reward for text in completions[-1]]

    # -- greedy validation --------------------------------------------------------------------------------

    @torch.no_grad()
    def accuracy(self, agents: list[Any], questions: list[Question]) -> float:
        said: list[dict[str, str]] = [{} for _ in questions]
        for layer in self.topology.layers:
            for node in layer:
                agent = agents[self.nodes.index(node)].eval()
                rows = [self.ids(node, q, s) for q, s in zip(questions, said, strict=True)]
                ids, mask = padded(rows, self.tokenizer.pad_token_id)
                out = agent.generate(input_ids=ids, attention_mask=mask, max_new_tokens=self.limit, do_sample=False)
                for s, row in zip(said, out[:, ids.shape[1] :], strict=True):
                    s[node] = self.tokenizer.decode(row, skip_special_tokens=True)
        replies = [q.answer_prefix + s[self.topology.output] for q, s in zip(questions, said, strict=True)]
        grades = [self.task.grade(q, reply) for q, reply in zip(questions, replies, strict=True)]
        return sum(g.reward for g in grades) / len(grades)


def trainer(problem: Problem, team: Team, args: argparse.Namespace, folder: str) -> MAREINFORCETrainer:
    turns = len(team.topology.layers)
    assert turns <= 2, "written for one or two layers"
    G = args.rollouts or problem.rollouts
    samples = 1 if turns == 1 else 1 + G  # of one agent for one question: every rollout of a turn opens the next
    settings = MAREINFORCEConfig(
        num_train_epochs=1,
        agent_learning_rate=args.rate,
        num_agents=len(team.nodes),
        num_generations=G,
        max_new_tokens=team.limit,
        temperature=problem.temperature,
        top_p=1.0,
        top_k=0,
        num_turns=turns,
        external_prompt_passthrough=True,
        early_termination_threshold=None,
        eval_interval=0,
        advantage_normalization=False,  # as in REINFORCE; by default the advantage is GRPO's
        rollout_buffer_size=problem.questions * samples,
    )
    made = MAREINFORCETrainer(
        agents=[build(folder, args.dtype, problem.rank, list(problem.targets), ["default"]) for _ in team.nodes],
        num_agents=len(team.nodes),
        tokenizer=team.tokenizer,
        reward_func=team.reward,
        formatters=[partial(team.formatter, node=node) for node in team.nodes],
        external_transition=team.transition if turns > 1 else None,
        args=settings,
    )
    made.verbose = False
    return made


def main() -> None:
    args = options()
    problem = PROBLEMS[args.problem]
    folder = str(TINY_FOLDER if problem.backbone == "tiny" else smollm2_folder())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = "<|endoftext|>"  # else the trainer takes the end of the system turn for padding
    team = Team(problem, tokenizer)
    made = trainer(problem, team, args, folder)
    schedule = Schedule(team.task.questions("train"), config(problem, args.rate, args.seed, args))
    held_out = team.task.questions("validation")[: problem.validation]
    spent, steps = 0.0, args.steps or problem.steps
    for step in range(steps + 1):
        if step:
            asked = schedule.questions(step)
            team.asked = {q.id: q for q in asked}
            made.train_dataset = Dataset.from_list([{"prompt": q.id} for q in asked])
            start = time.perf_counter()
            made.train()
            spent += time.perf_counter() - start
        last = step == steps or (args.seconds is not None and spent >= args.seconds)
        if step % problem.validate_every == 0 or last:
            accuracy = team.accuracy(made.agents, held_out)
            print(json.dumps({"step": step, "seconds": round(spent, 3), "accuracy": accuracy}), flush=True)
        if last:
            break


if __name__ == "__main__":
    main()
