"""CoMLRL's REINFORCE trainer, one agent (a PEFT model of its own) for each node of a layer.

The trainer takes one question at a time; its buffer holds all of them, so that each agent makes one update.
Rollouts and updates alternate agent by agent inside `train`, so both are timed where the trainer calls them.
"""

from typing import Any

import torch
from comlrl.trainers.reinforce import MAREINFORCEConfig, MAREINFORCETrainer
from datasets import Dataset
from transformers import AutoTokenizer

from benchmarks.items import measure
from benchmarks.items.peft import for_work
from benchmarks.work import Work


class Timed(MAREINFORCETrainer):
    """The trainer with a clock on its two phases."""

    spent: dict[str, measure.Lap]

    def _generate_completions(self, *args: Any, **kwargs: Any) -> Any:
        return self._clocked("rollout", super()._generate_completions, *args, **kwargs)

    def _update_from_samples(self, *args: Any, **kwargs: Any) -> Any:
        return self._clocked("update", super()._update_from_samples, *args, **kwargs)

    def _clocked(self, phase: str, call: Any, *args: Any, **kwargs: Any) -> Any:
        start = measure.now()
        result = call(*args, **kwargs)
        self.spent[phase] += measure.now() - start
        return result


def trainer(args: Any, work: Work) -> Timed:
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    ends = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    if ends is not None and tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = "<|endoftext|>"  # else the trainer takes the end of the system turn for padding
    texts = [[tokenizer.decode(ids) for ids in node.prefix_ids] for node in work.nodes]
    for node, rows in zip(work.nodes, texts, strict=True):
        assert [tokenizer(row).input_ids for row in rows] == node.prefix_ids, "prompts survive as text"
    settings = MAREINFORCEConfig(
        num_train_epochs=args.warmup + args.repeats,
        agent_learning_rate=1e-6,
        num_agents=len(work.nodes),
        num_generations=work.rollouts,
        max_new_tokens=work.nodes[0].tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        num_turns=1,
        eval_interval=0,
        rollout_buffer_size=work.questions,
        advantage_normalization=False,
    )
    made = Timed(
        agents=[for_work(work, ["default"]) for _ in work.nodes],
        num_agents=len(work.nodes),
        tokenizer=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": str(p)} for p in range(work.questions)]),
        reward_func=lambda *completions: [1.0 for _ in completions[0]],
        formatters=[lambda item, rows=rows: rows[int(item["prompt"])] for rows in texts],
        args=settings,
    )
    made.verbose = False
    return made


def main() -> None:
    args = measure.options()
    work: Work = args.work
    if work.topology != "layer":
        raise SystemExit("its agents do not read each other's messages within a turn: only single layers compare")
    made, laps = trainer(args, work), measure.Laps()
    epochs, made.args.num_train_epochs = made.args.num_train_epochs, 1
    for _ in range(epochs):
        made.spent = {"rollout": measure.Lap(), "update": measure.Lap()}
        made.train(min_new_tokens=work.nodes[0].tokens)
        laps.rollout.append(made.spent["rollout"])
        laps.update.append(made.spent["update"])
    assert all(p.grad is not None for p in made.agents[0].parameters() if p.requires_grad)
    measure.report(laps, args, torch=torch.__version__)


if __name__ == "__main__":
    main()
